"""A fresh model of the recipe copies words that it was never shown; one without the circuit does not."""

import random

import pytest
import torch

from cai.reference import tasks
from cai.reference.build import collate, encode
from cai.reference.seeding import seeded_model
from cai.reference.tokenizer import build_tokenizer, words


@pytest.fixture(scope="module")
def rows():
    tokenizer, vocabulary, rng = (
        build_tokenizer(),
        sorted(words() - set('.,?!:"')),
        random.Random(5),
    )
    made = []
    while len(made) < 24:
        row = tasks.exercise(rng, vocabulary)
        if len(row) == 2:
            made.append(encode(row, tokenizer))
    return tokenizer, collate(made)


def copied(model, ids, weights) -> float:
    """Share of the learnt tokens that the model's best guess gets right."""
    with torch.no_grad():
        guessed = model(ids).logits[:, :-1].argmax(-1)
    wanted = weights[:, 1:] > 0
    return float((guessed == ids[:, 1:])[wanted].float().mean())


def test_it_copies_before_any_training(rows):
    tokenizer, (ids, weights) = rows
    model = seeded_model(
        len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id, seed=1
    ).eval()
    assert copied(model, ids, weights) > 0.6
    # without the heads that look one token back, nothing is left of it
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
    assert copied(model, ids, weights) < 0.1
