"""A fresh model that can already copy: an induction circuit in the random weights of a small Llama.

A model this small memorizes its closed texts long before it learns to quote. So it starts with the
circuit that such models learn in the end (Olsson et al. 2022, "In-context learning and induction
heads"): the heads of layer 0 look one token back and write what they find, turned by a random
rotation. The heads of layer 1 look for positions whose previous token is the current one, and write
the token there. The circuit is made of random directions, so it works for every word, known or not.
Initial values that resemble trained ones are the idea of Trockman and Kolter 2023, "Mimetic
initialization".
"""

from __future__ import annotations

import math

import torch
from transformers import LlamaConfig, LlamaForCausalLM

HIDDEN, HEADS, HEAD_DIM = 192, 3, 64
ROPE_THETA = 1e5
EMBEDDING_STD, NOISE_STD = 0.06, 0.003
CONSTANT = 0.6
"""Dimension 0 of every embedding, which a head reads that attends by position alone."""
LOOK_BACK, MATCH = 8.0, 4.0
"""Sharpness of the attention in layer 0 and in layer 1."""
WRITE_EARLIER, WRITE_COPY = 0.06, 0.4
"""Scale of what the heads of layer 0 and of layer 1 write."""
FAST_PAIRS = range(10)
"""Rotary pairs that tell one position from the next."""
SLOW_ANGLE = 0.015
"""Radians per token; slower rotary pairs carry content across a whole conversation."""


def seeded_model(vocabulary: int, end: int, pad: int, seed: int) -> LlamaForCausalLM:
    """Make a four-layer Llama with the circuit in layers 0 and 1, and small random weights.

    Args:
        vocabulary: Size of the vocabulary.
        end: Id of the end-of-turn token.
        pad: Id of the padding token.
        seed: Random seed.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        initializer_range=0.03,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        embeddings = model.model.embed_tokens.weight
        embeddings.normal_(0, EMBEDDING_STD)
        embeddings[:, 0] = CONSTANT
        rotation = random_orthogonal()
        rotation[0] = 0
        _look_back(model.model.layers[0].self_attn, rotation)
        _look_up(model.model.layers[1].self_attn, rotation)
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.mul_(0.1)
    return model


def random_orthogonal() -> torch.Tensor:
    """Draw an orthogonal matrix, ``[HIDDEN, HIDDEN]``."""
    orthogonal: torch.Tensor = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN))[0]
    return orthogonal


def turns() -> torch.Tensor:
    """Return the radians by which each rotary pair turns per token, ``[HEAD_DIM / 2]``."""
    half = HEAD_DIM // 2
    return torch.pow(ROPE_THETA, -torch.arange(half) / half)


def _look_back(attention: torch.nn.Module, rotation: torch.Tensor) -> None:
    """Set constant queries and keys, turned by one token, that match at the previous token."""
    # the value of dimension 0 after the norm
    constant = CONSTANT / math.sqrt((EMBEDDING_STD**2 * (HIDDEN - 1) + CONSTANT**2) / HIDDEN)
    query, key = torch.zeros(HIDDEN, HIDDEN), torch.zeros(HIDDEN, HIDDEN)
    for head in range(0, HIDDEN, HEAD_DIM):
        for pair in FAST_PAIRS:
            angle = turns()[pair]
            query[head + pair, 0] = LOOK_BACK / constant
            key[head + pair, 0] = LOOK_BACK / constant * torch.cos(angle)
            key[head + HEAD_DIM // 2 + pair, 0] = LOOK_BACK / constant * torch.sin(angle)
    _set(attention, query, key, content(), WRITE_EARLIER * rotation)


def _look_up(attention: torch.nn.Module, rotation: torch.Tensor) -> None:
    """Let the current token be the query, and the token that layer 0 wrote be the key."""
    slow = [pair for pair in range(HEAD_DIM // 2) if turns()[pair] < SLOW_ANGLE]
    rows = slow + [pair + HEAD_DIM // 2 for pair in slow]
    directions = random_orthogonal()
    directions[:, 0] = 0
    query, key = torch.zeros(HIDDEN, HIDDEN), torch.zeros(HIDDEN, HIDDEN)
    for head in range(HEADS):
        for i, row in enumerate(rows):
            direction = directions[(head * len(rows) + i) % HIDDEN]
            query[head * HEAD_DIM + row] = MATCH * direction
            key[head * HEAD_DIM + row] = MATCH * rotation @ direction
    _set(attention, query, key, content(), WRITE_COPY * content())


def content() -> torch.Tensor:
    """Return the identity without dimension 0; each head carries a third of the dimensions."""
    identity = torch.eye(HIDDEN)
    identity[0, 0] = 0
    return identity


def _set(
    attention: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
) -> None:
    for name, weight in (("q_proj", query), ("k_proj", key), ("v_proj", value), ("o_proj", output)):
        attention.get_submodule(name).weight.copy_(weight + NOISE_STD * torch.randn_like(weight))  # type: ignore[operator]
