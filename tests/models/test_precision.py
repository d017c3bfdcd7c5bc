"""Which models are read in bfloat16, and what that leaves of their numbers."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from cai.config import Training
from cai.models.heads import Policy
from cai.models.load import best_dtype, load_language_model
from cai.models.packing.layout import PromptGroup, pack_rows
from cai.models.scalar import answer_scores
from cai.train.load import precision_of

CPU = torch.device("cpu")


@pytest.fixture(params=["_is_amx_tile_supported", "_is_avx512_bf16_supported"])
def fast_bfloat16(request, monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda is_fast=name == request.param: is_fast)


def scalar_model(hidden_size):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_labels=1,
        pad_token_id=0,
    )
    return LlamaForSequenceClassification(config).eval()


def test_wide_models_are_read_in_bfloat16(fast_bfloat16):
    assert best_dtype(CPU, 512) == torch.bfloat16
    assert best_dtype(CPU, 511) == torch.float32
    assert precision_of(Training(), scalar_model(512)) == torch.bfloat16
    assert precision_of(Training(precision="float32"), scalar_model(512)) == torch.float32


def test_the_reference_model_is_not(fast_bfloat16):
    assert load_language_model("reference", CPU).model.dtype == torch.float32


def test_nothing_is_read_in_bfloat16_where_it_is_slow(monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert best_dtype(CPU, 4096) == torch.float32


def test_a_score_is_not_rounded_to_bfloat16():
    model = scalar_model(64)
    packed = pack_rows([PromptGroup([5, 6], [[7, i]]) for i in range(8, 40)], 0, CPU)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores = answer_scores(model, packed)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())


def test_a_value_of_the_policy_is_not_rounded_to_bfloat16():
    policy = Policy(load_language_model("reference", CPU).model, torch.bfloat16, value=True)
    torch.nn.init.normal_(policy.value.weight)
    packed = pack_rows([PromptGroup([5, 6], [[7, i]]) for i in range(8, 40)], 0, CPU)
    with torch.no_grad():
        logits, values = policy(packed)
    assert logits.dtype == torch.bfloat16
    assert not torch.equal(values, values.bfloat16().float())
