"""Families whose cache, padding or rows are odd: each is decoded in a way that is right, or refused."""

import pytest
import torch
from tiny_models import LLAMA, SMALL
from transformers import AutoConfig, AutoModelForCausalLM

from cai.errors import InputError
from cai.models.cache import cache_argument, new_cache
from cai.models.decode import Stops, decode
from cai.models.decoding_traits import FASTEST, DecodingTraits, decoding_traits

MAMBA = SMALL | {"state_size": 4, "expand": 2, "time_step_rank": 4}
HYBRID = LLAMA | {
    "head_dim": 8,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "num_experts": 0,
}
ODD = {
    "llama": (SMALL | LLAMA, FASTEST),
    "mamba": (MAMBA, FASTEST),
    "qwen3_next": (SMALL | HYBRID, FASTEST),
    "lfm2": (
        SMALL | LLAMA | {"layer_types": ["conv", "full_attention"], "block_ff_dim": 48},
        FASTEST,
    ),
    "gemma2": (SMALL | LLAMA | {"head_dim": 8, "sliding_window": 4}, FASTEST),
    "recurrent_gemma": (
        SMALL
        | {"intermediate_size": 48, "lru_width": 32, "num_key_value_heads": 1}
        | {"attention_window_size": 16, "num_hidden_layers": 3},
        DecodingTraits(True, "equal lengths", selects_rows=False),
    ),
    "rwkv": (
        SMALL | {"attention_hidden_size": 32, "intermediate_size": 48, "context_length": 64},
        DecodingTraits(True, "one row", selects_rows=False),
    ),
    "openai-gpt": (
        {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
        DecodingTraits(False, "any lengths", selects_rows=True),
    ),
}
PROMPTS = [[5, 6, 7], [20, 21, 22, 23, 24, 25, 26, 27], [30, 31, 32], [5, 6, 7]]


def odd(family):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **ODD[family][0])).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)  # so that the context matters
    return model


def slow_greedy(model, prompt, max_tokens):
    tokens = []
    for _ in range(max_tokens):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + tokens]), use_cache=False).logits
        tokens.append(int(logits[0, -1].argmax()))
    return tokens


@pytest.mark.parametrize("family", ODD)
def test_each_row_reads_as_it_does_alone_and_without_a_cache(family):
    model = odd(family)
    assert decoding_traits(model) == ODD[family][1]
    slow = [slow_greedy(model, prompt, 8) for prompt in PROMPTS]
    stop = slow[0][3]
    assert len(set(map(tuple, slow))) == 3
    found = decode(
        model,
        PROMPTS,
        max_tokens=8,
        temperature=0,
        seeds=[0] * 4,
        stops=Stops(frozenset({stop})),
        pad_id=0,
    )
    for row, expected in zip(found, slow, strict=True):
        end = expected.index(stop) + 1 if stop in expected else 8
        assert row.tokens == expected[:end]


def test_a_model_that_sees_what_comes_after_is_refused():
    config = AutoConfig.for_model("bert", **SMALL, intermediate_size=48, is_decoder=False)
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(InputError, match="predicts a token from tokens that come after it"):
        decode(
            model,
            [[5, 6]],
            max_tokens=1,
            temperature=0,
            seeds=[0],
            stops=Stops(frozenset()),
            pad_id=0,
        )


def test_a_cache_that_forgets_is_not_kept(monkeypatch):
    """What a family does that swallows the cache: each step reads the new token alone."""
    model = odd("llama")
    name, forward = cache_argument(model), model.forward
    monkeypatch.setattr(
        model, "forward", lambda **inputs: forward(**inputs | {name: new_cache(model)})
    )
    assert decoding_traits(model) == DecodingTraits(False, "any lengths", selects_rows=True)


@pytest.mark.parametrize("family", ["llama", "mamba", "gemma2"])
def test_rounding_to_bfloat16_is_no_fault(family):
    assert decoding_traits(odd(family).bfloat16()) == FASTEST
