"""The likelihood of answers is computed in batches of a limited number of tokens."""

import pytest

from cai.evaluate import likelihood
from cai.records import Prompt

PAIRS = [
    (Prompt.of("Where is the cat?"), "The cat is in the kitchen. " * n) for n in (4, 3, 4, 4, 3, 4)
]


def test_no_batch_is_over_the_limit_and_none_changes_a_value(monkeypatch):
    sizes = []

    def counted(model, groups, pad_id, pack=likelihood.pack):
        longest = max(group.size for group in groups)
        sizes.append(len(groups) * longest)
        return pack(model, groups, pad_id)

    monkeypatch.setattr(likelihood, "pack", counted)
    limited, lengths = likelihood.answer_logprobs("reference", PAIRS, max_tokens=128)
    assert max(sizes) <= 128
    assert 1 < len(sizes) < len(PAIRS)
    sizes.clear()
    whole, _ = likelihood.answer_logprobs("reference", PAIRS)
    assert max(sizes) > 128
    assert limited == pytest.approx(whole, abs=1e-3)
    assert lengths[0] > lengths[1]
