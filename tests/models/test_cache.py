"""The cache reaches every family under the name that the installed library uses, and without a word."""

import warnings

import pytest
import torch
from test_families import FAMILIES, made
from transformers import AutoModelForCausalLM, DynamicCache

from cai.errors import InputError
from cai.models.cache import cached
from cai.models.decode import Stops, decode
from cai.models.packing.prefix import group_rows, prefix_logits


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_warns_about_its_cache(family):
    model = made(AutoModelForCausalLM, family)
    rows = [[*range(5, 21), 30, 31], [*range(5, 21), 32]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(
            model,
            rows,
            max_tokens=3,
            temperature=0,
            seeds=[0, 0],
            stops=Stops(frozenset({2})),
            pad_id=0,
        )
        groups = group_rows(model, rows, [1, 1])
        list(prefix_logits(model, rows, [1, 1], groups, pad_id=0, max_tokens=1_024))


class Now:
    def forward(self, input_ids, cache=None, use_cache=None): ...


class Before:
    def forward(self, input_ids, past_key_values=None, use_cache=None): ...


class Recurrent:
    def forward(self, input_ids, cache_params=None, use_cache=None): ...


class Never:
    def forward(self, input_ids, **kwargs): ...


@pytest.mark.parametrize(
    ("kind", "name"), [(Now, "cache"), (Before, "past_key_values"), (Recurrent, "cache_params")]
)
def test_the_signature_decides_the_name(kind, name):
    cache = DynamicCache()
    assert cached(kind(), cache) == {name: cache, "use_cache": True}


def test_a_model_that_would_swallow_the_cache_is_refused():
    with pytest.raises(InputError, match="Never: takes no key-value cache"):
        cached(Never(), DynamicCache())


def test_the_cache_is_read():
    """A step that reads the cache sees what came before; the same step without it does not."""
    model = made(AutoModelForCausalLM, "llama")
    cache, ids = DynamicCache(), torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        model(ids[:, :3], **cached(model, cache))
        step = model(ids[:, 3:], position_ids=torch.tensor([[3]]), **cached(model, cache)).logits[
            0, -1
        ]
        assert torch.allclose(step, model(ids).logits[0, -1], atol=1e-4)
        assert not torch.allclose(
            step, model(ids[:, 3:], position_ids=torch.tensor([[3]])).logits[0, -1], atol=1e-3
        )
