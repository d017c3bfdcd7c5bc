"""A fresh model that can already copy: an induction circuit written into the random weights of a small Llama.

A model this small learns its closed texts by heart long before it learns to quote. So it starts with what such models come
to in the end (Olsson et al. 2022, "In-context learning and induction heads"): the heads of layer 0 look one token back and
write, turned by a random rotation, what stands there; the heads of layer 1 look for places whose earlier token is the
current one and write what stands there. All of it is made of random directions, so it holds for every word alike, known or
not. Starting values that resemble trained ones are the idea of Trockman and Kolter 2023, "Mimetic initialization".
"""

from __future__ import annotations

import math

import torch
from transformers import LlamaConfig, LlamaForCausalLM

HIDDEN, HEADS, HEAD_DIM = 192, 3, 64
ROPE_THETA = 1e5
EMBEDDING_STD, NOISE_STD = 0.06, 0.003
CONSTANT = 0.6  # dimension 0 of every embedding: what a head that only cares for places reads
LOOK_BACK, MATCH = 8.0, 4.0  # how sharp the heads of layer 0 and layer 1 look
WRITE_EARLIER, WRITE_COPY = 0.06, 0.4  # how loud they write
FAST_PAIRS = range(10)  # rotary pairs that tell one place from the next
SLOW_ANGLE = 0.015  # radians a token; pairs that turn slower than this carry content across a whole conversation


def seeded_model(vocabulary: int, end: int, pad: int, seed: int) -> LlamaForCausalLM:
    """A four-layer Llama with the circuit in layers 0 and 1, and small random weights elsewhere."""
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
    orthogonal: torch.Tensor = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN))[0]
    return orthogonal


def turns() -> torch.Tensor:
    """Radians by which each rotary pair of a head turns from one token to the next, ``[HEAD_DIM / 2]``."""
    half = HEAD_DIM // 2
    return torch.pow(ROPE_THETA, -torch.arange(half) / half)


def _look_back(attention: torch.nn.Module, rotation: torch.Tensor) -> None:
    """Query and key are constants, the key turned one token ahead, so their product peaks at the token before."""
    # what dimension 0 is after the norm
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
    """The query is the current token, the key the token before (as layer 0 wrote it), both seen from the same directions."""
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
    """The identity on all dimensions but the constant one; each head carries its third of them."""
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
