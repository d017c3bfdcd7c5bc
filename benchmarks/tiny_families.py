"""Tiny random language models of the families that transformers knows, made from their configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

FAMILIES = sorted(config.model_type for config in MODEL_FOR_CAUSAL_LM_MAPPING)
"""All families of causal language models, by their ``model_type``."""
CONTEXT = 256
WINDOW = 16
"""Tokens that layers with a window or chunks see; the texts that are tried are longer."""
SIZES: dict[int | None, str] = {
    CONTEXT: "max_position_embeddings n_positions n_ctx max_seq_len context_length",
    WINDOW: "sliding_window attention_chunk_size attention_window_size local_attention window_size "
    "index_topk mamba_chunk_size",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers "
    "num_decoder_layers num_encoder_layers num_key_value_heads linear_num_key_heads "
    "num_experts_per_tok moe_topk moe_k experts_per_token top_k_experts index_n_heads",
    32: "hidden_size n_embd d_model embedding_size word_embed_proj_dim emb_dim lru_width "
    "attention_hidden_size",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads "
    "decoder_attention_heads rotary_dim linear_num_value_heads qk_rope_head_dim time_step_rank "
    "num_experts num_local_experts n_routed_experts moe_num_experts mamba_n_heads mamba_dt_rank "
    "mamba_num_heads",
    8: "head_dim qk_nope_head_dim v_head_dim linear_key_head_dim linear_value_head_dim "
    "index_head_dim state_size mamba_d_state ssm_state_size hidden_size_per_layer_input "
    "laurel_rank",
    16: "q_lora_rank kv_lora_rank moe_intermediate_size shared_expert_intermediate_size "
    "shared_intermediate_size expert_ffn_hidden_size mamba_d_head mamba_head_dim mamba_headdim "
    "moe_shared_expert_intermediate_size",
    48: "intermediate_size n_inner ffn_dim d_ff encoder_ffn_dim decoder_ffn_dim ffn_hidden_size "
    "block_ff_dim",
    64: "mamba_d_ssm",
    1: "n_group topk_group mamba_n_groups n_groups mamba_ngroups n_mamba_heads",
    0: "num_nextn_predict_layers mtp_num_layers num_kv_shared_layers first_k_dense_replace",
}
"""What to set, where a config has it."""
LAYERS = ("layer_types", "mlp_layer_types")
"""Lists with an item for each layer, which are made anew for two layers."""
HYBRID = {"layer_types": ["linear_attention", "full_attention"]}
WINDOWED = {"layer_types": ["sliding_attention", "full_attention"]}
SPECIAL: dict[str, dict[str, Any]] = {
    "bailing_hybrid": HYBRID,
    "bamba": {"attn_layer_indices": [1]},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma2": WINDOWED,
    "gemma3_text": WINDOWED,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "kimi_linear": HYBRID
    | {"linear_head_dim": 8, "linear_num_heads": 4, "num_experts_per_token": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lfm3": {"layer_types": ["conv", "full_attention"]},
    "llama4_text": {"layer_types": ["chunked_attention", "full_attention"]},
    "longcat_flash": {"head_dim": 4},
    "mamba2": {"num_heads": 4, "head_dim": 16, "expand": 2},
    "minimax": HYBRID,
    "nemotron_h": {"layers_block_type": ["mamba", "attention"]},
    "olmo_hybrid": HYBRID,
    "qwen3_5_moe_text": HYBRID,
    "qwen3_5_text": HYBRID,
    "qwen3_next": HYBRID,
    "recurrent_gemma": {"num_hidden_layers": 3, "num_key_value_heads": 1},
    "rembert": {"input_embedding_size": 32, "output_embedding_size": 48},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
}
"""What some families need besides, such as layers of both kinds that they have."""
MAX_PARAMETERS = 20_000_000


def tiny_config(family: str, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """Make the config of a model with two small layers.

    Args:
        family: A ``model_type`` of transformers.
        tokenizer: The tokenizer that the model is to have.
    """
    known = AutoConfig.for_model(family)
    names = {*known.to_dict(), *known.attribute_map}
    sizes: dict[str, Any] = {
        name: size for size, listed in SIZES.items() for name in listed.split() if name in names
    }
    sizes |= dict.fromkeys(names & set(LAYERS))
    if "qk_rope_head_dim" in names:
        sizes.pop("head_dim", None)
        if "num_key_value_heads" in names:
            sizes["num_key_value_heads"] = 4
    sizes |= SPECIAL.get(family, {})
    sizes |= {"vocab_size": len(tokenizer), "is_decoder": True}
    sizes |= {"pad_token_id": tokenizer.pad_token_id}
    sizes |= {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    if "cls_token_id" in names:
        sizes |= {"cls_token_id": tokenizer.eos_token_id, "sep_token_id": tokenizer.eos_token_id}
    config = _config(type(known), sizes)
    for name, rate in vars(config).items():
        if isinstance(rate, float) and "drop" in name and family != "diffllama":
            setattr(config, name, 0.1)
    return config


def _config(kind: type[PretrainedConfig], sizes: dict[str, Any]) -> PretrainedConfig:
    """Make a config; some families count their layers themselves."""
    try:
        return kind(**sizes)
    except (AttributeError, TypeError):
        return kind(**{name: value for name, value in sizes.items() if value is not None})


def save_tiny(family: str, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a tiny random model of a family with a tokenizer.

    Raises:
        ValueError: If the model would not be tiny, since its config has parts of other kinds.
    """
    torch.manual_seed(0)
    config = tiny_config(family, tokenizer)
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in _make(config).parameters())
    if parameters > MAX_PARAMETERS:
        raise ValueError(f"{parameters / 1e6:,.0f}M parameters: its config has parts of its own")
    model = _make(config)
    for name, weight in model.named_parameters():
        if weight.dim() > 1 and "conv" not in name:
            torch.nn.init.normal_(weight, std=0.15)  # so that the context matters
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _make(config: PretrainedConfig) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    return model
