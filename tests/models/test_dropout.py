"""Nothing is left to chance in training: rollout, update and reference must see the same function."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, OPTConfig, OPTForCausalLM

from cai.config import Training
from cai.errors import InputError
from cai.models.load import disable_dropout, load_language_model, load_tokenizer
from cai.models.scalar import load_scalar_model
from cai.train.load import load_policy, load_scalar

SIZES = {
    "vocab_size": 96,
    "max_position_embeddings": 64,
    "n_positions": 64,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "num_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "hidden_size": 32,
    "n_embd": 32,
    "d_model": 32,
    "word_embed_proj_dim": 32,
    "head_dim": 8,
    "num_attention_heads": 4,
    "n_head": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "rotary_dim": 4,
    "intermediate_size": 48,
    "n_inner": 48,
    "ffn_dim": 48,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = [
    "arcee",
    "bart",
    "bert-generation",
    "biogpt",
    "bitnet",
    "bloom",
    "codegen",
    "cohere",
    "cohere2",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glm",
    "glm4",
    "gpt2",
    "gpt_neox",
    "gpt_oss",
    "gptj",
    "granite",
    "granitemoe",
    "helium",
    "hunyuan_v1_dense",
    "llama",
    "mbart",
    "minimax_m2",
    "mistral",
    "mixtral",
    "modernbert-decoder",
    "nemotron",
    "olmo",
    "olmo2",
    "olmoe",
    "opt",
    "persimmon",
    "phi",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "roberta",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
    "xglm",
    "xlm-roberta",
]


def with_rates(family):
    """A small random model in training mode, of which every rate of dropout or noise is one half."""
    known = AutoConfig.for_model(family)
    names = {*known.to_dict(), *known.attribute_map}
    sizes = {name: size for name, size in SIZES.items() if name in names}
    if "layer_types" in names:
        sizes["layer_types"] = None  # as many as there are layers now
    config = type(known)(**sizes)
    config.is_decoder = True
    for name, value in vars(config).items():
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and ("drop" in name or "jitter" in name)
        ):
            setattr(config, name, 0.5)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).train()


@pytest.mark.parametrize("family", FAMILIES)
def test_two_readings_in_training_agree(family):
    model, ids = with_rates(family), torch.arange(5, 25).view(1, -1)

    def answer_logits():
        with torch.no_grad():
            return model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits

    assert not torch.equal(answer_logits(), answer_logits()), "the rates are on"
    disable_dropout(model)
    assert torch.equal(answer_logits(), answer_logits())


@pytest.fixture(scope="module")
def opt(tiny, tmp_path_factory):
    """A model that ships with dropout, whose rate is an attribute that is handed to a function."""
    tokenizer = load_tokenizer(tiny)
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        dropout=0.1,
        bos_token_id=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("opt")
    OPTForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_what_is_opened_for_training_has_no_dropout(opt):
    for opened in (load_policy(opt, Training()), load_scalar(opt, Training(), new_head=True)):
        model, ids = opened[0].model.train(), torch.arange(5, 25).view(1, -1)
        with torch.no_grad():
            assert torch.equal(model(ids).logits, model(ids).logits)


def test_a_model_whose_chance_stays_on_is_not_trained(opt, monkeypatch):
    monkeypatch.setattr(
        "cai.models.load.disable_dropout", lambda model: None
    )  # as for a rate that goes by another name
    with pytest.raises(InputError, match="reads the same text differently each time in training"):
        load_policy(opt, Training())


@pytest.mark.parametrize(
    "load", [load_language_model, lambda name: load_scalar_model(name, new_head=True)]
)
def test_dropout_is_off_in_training_mode(tiny_gpt2, load):
    model = load(tiny_gpt2).model.train()
    ids = torch.arange(5, 25).view(1, -1)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, model(ids).logits)
