"""Every family that users bring: read as trees, padded, one by one, as a reward model, and continued, all alike."""

from collections import ChainMap

import pytest
import torch
from tiny_models import LLAMA, SMALL
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from cai.models.decode import Stops, decode
from cai.models.packing.grouping import PrefixGroup, batch_groups
from cai.models.packing.layout import PromptGroup, pack, pack_rows, supports_tree_attention
from cai.models.packing.logits import answer_logits
from cai.models.packing.prefix import group_rows, prefix_logits
from cai.models.scalar import answer_scores

FAMILIES = {
    "llama": SMALL | LLAMA,
    "qwen2": SMALL | LLAMA,
    "qwen3": SMALL | LLAMA | {"head_dim": 8},
    "mistral": SMALL | LLAMA | {"sliding_window": None},
    "gemma": SMALL | LLAMA | {"head_dim": 8},
    "gemma2": SMALL | LLAMA | {"head_dim": 8, "sliding_window": 64},  # caps its logits
    "gpt2": {
        "vocab_size": 96,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "opt": SMALL
    | {"ffn_dim": 48, "max_position_embeddings": 64, "word_embed_proj_dim": 32, "pad_token_id": 0},
    "gpt_neox": SMALL | {"intermediate_size": 48, "max_position_embeddings": 64},
    "phi": SMALL | {"intermediate_size": 48, "max_position_embeddings": 64},
    "phi3": SMALL | LLAMA,
    "bloom": {
        "vocab_size": 96,
        "hidden_size": 32,
        "n_layer": 2,
        "n_head": 4,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
}
TREES = [
    PromptGroup([5, 6, 7, 8, 9], [[10, 11, 2], [12, 2], [13, 14, 15, 2]]),
    PromptGroup([20, 21], [[22, 23, 24, 25, 26, 2], [27, 2]]),
]


def made(kind, family, **more):
    torch.manual_seed(3)
    config = AutoConfig.for_model(family, **FAMILIES[family], **more)
    return kind.from_config(config).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tree_is_read_as_its_answers_one_by_one(family):
    model = made(AutoModelForCausalLM, family)
    with torch.no_grad():
        found = answer_logits(model, pack(model, TREES, 0)).logits
        standalone = [
            model(torch.tensor([t.prompt + a])).logits[0, len(t.prompt) - 1 : -1]
            for t in TREES
            for a in t.answers
        ]
    assert torch.allclose(found, torch.cat(standalone), atol=2e-4)
    # all but the one that knows no positions share the prompt: its bias for distance counts tokens in a row
    assert supports_tree_attention(model) == (family != "bloom")
    rows = pack(model, TREES, 0).ids
    assert len(rows) == (2 if supports_tree_attention(model) else 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_begin_alike_are_read_as_one_by_one(family):
    model = made(AutoModelForCausalLM, family)
    beginning = list(range(5, 21))
    rows = [beginning + [30, 31, 32], beginning + [33], beginning + [34, 35], [40, 41, 42]]
    kept = [2, 1, 1, 3]
    found = {}
    for batch in batch_groups(group_rows(model, rows, kept), rows, 1000):
        found |= ChainMap(*prefix_logits(model, rows, kept, batch, pad_id=0, max_tokens=64))
    assert any(group.shared == 16 for group in group_rows(model, rows, kept)) == (family != "bloom")
    for i, row in enumerate(rows):
        with torch.no_grad():
            assert torch.allclose(
                found[i], model(torch.tensor([row])).logits[0, -kept[i] :], atol=2e-4
            ), i


def test_answers_that_see_each_other_are_told_apart():
    model = made(AutoModelForCausalLM, "llama")
    packed = pack_rows(TREES, 0, torch.device("cpu"))
    blind = packed._replace(
        attention=(packed.ids > 0).long()
    )  # causal only: the second answer sees the first
    with torch.no_grad():
        assert not torch.allclose(
            answer_logits(model, packed).logits, answer_logits(model, blind).logits, atol=1e-3
        )
        shifted = packed._replace(positions=torch.arange(packed.ids.shape[1]).expand_as(packed.ids))
        assert not torch.allclose(
            answer_logits(model, packed).logits, answer_logits(model, shifted).logits, atol=1e-3
        )


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_either_attention_takes_its_mask(implementation):
    model = made(AutoModelForCausalLM, "llama", attn_implementation=implementation)
    with torch.no_grad():
        found = answer_logits(model, pack(model, TREES, 0)).logits
        standalone = [
            model(torch.tensor([t.prompt + a])).logits[0, len(t.prompt) - 1 : -1]
            for t in TREES
            for a in t.answers
        ]
    assert supports_tree_attention(model) and torch.allclose(
        found, torch.cat(standalone), atol=2e-4
    )
    rows = [[*range(5, 21), 30, 31], [*range(5, 21), 32]]
    groups = [PrefixGroup(16, [0, 1])]
    (found,) = prefix_logits(model, rows, [1, 1], groups, pad_id=0, max_tokens=1_024)
    with torch.no_grad():
        assert all(
            torch.allclose(found[i], model(torch.tensor([row])).logits[0, -1:], atol=2e-4)
            for i, row in enumerate(rows)
        )


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("phi", "phi3")])
def test_scores_are_the_librarys(family):
    model = made(AutoModelForSequenceClassification, family, num_labels=1)
    with torch.no_grad():
        found = answer_scores(model, pack(model, TREES, 0))
        standalone = torch.cat(
            [model(torch.tensor([t.prompt + a])).logits[:, 0] for t in TREES for a in t.answers]
        )
    assert torch.allclose(found, standalone, atol=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_the_librarys_whatever_stands_beside_them(family):
    model = made(AutoModelForCausalLM, family)
    prompts = [prompt_group.prompt for prompt_group in TREES] + [
        [30, 31, 32, 33, 34, 35, 36],
        TREES[0].prompt,
    ]
    found = decode(
        model,
        prompts,
        max_tokens=6,
        temperature=0,
        seeds=[0] * 4,
        stops=Stops(frozenset({2})),
        pad_id=0,
    )
    for prompt, row in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        expected = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            do_sample=False,
            pad_token_id=0,
        )
        assert row.tokens == expected[0, len(prompt) :].tolist()
