"""Prompts with their answers as one batch, laid out so that a prompt is read once for all its answers.

A tree is a prompt and the answers to it. Its row holds the prompt and then the answers one after the other; an answer's tokens
see the prompt and their own answer only, and their positions go on where the prompt's end. So the two answers of a pair, or the
``K`` of a ranking, cost their own tokens and one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel


class PromptGroup(NamedTuple):
    """Token ids of a prompt, and of the answers to it."""

    prompt: list[int]
    answers: list[list[int]]

    @property
    def size(self) -> int:
        return len(self.prompt) + sum(map(len, self.answers))


class PackedBatch(NamedTuple):
    """``R`` rows of ``L`` tokens with ``A`` answers of ``N`` tokens in all. A place is ``row * L + column``."""

    ids: Tensor  # [R, L]
    positions: Tensor  # [R, L]
    attention: Tensor  # [R, L], or [R, 1, L, L] where a row holds several answers
    targets: Tensor  # [N] the answers' tokens
    before: Tensor  # [N] place of the token that each of them is predicted from
    owner: Tensor  # [N] the answer each is of
    first_and_last_decile: Tensor  # [A] place of the last token of each answer

    @property
    def inputs(self) -> dict[str, Any]:
        """What a transformers model is called with."""
        return {
            "input_ids": self.ids,
            "attention_mask": self.attention,
            "position_ids": self.positions,
            "use_cache": False,
        }

    def sums(self, values_N: Tensor) -> Tensor:
        """Sums over each answer's tokens, ``[A]``."""
        return values_N.new_zeros(len(self.first_and_last_decile)).index_add(
            0, self.owner, values_N
        )

    def lengths(self) -> Tensor:
        """Tokens of each answer, ``[A]``."""
        return torch.bincount(self.owner, minlength=len(self.first_and_last_decile))


def pack(model: PreTrainedModel, prompt_groups: Sequence[PromptGroup], pad_id: int) -> PackedBatch:
    """The batch of some trees, as the model can read it: where it cannot share a prompt, the prompt is read with every answer."""
    several = any(len(prompt_group.answers) > 1 for prompt_group in prompt_groups)
    share = (
        several
        and supports_tree_attention(model)
        and can_share_prefix(model, max(prompt_group.size for prompt_group in prompt_groups))
    )
    if several and not share:
        prompt_groups = [
            PromptGroup(prompt_group.prompt, [answer])
            for prompt_group in prompt_groups
            for answer in prompt_group.answers
        ]
    return pack_rows(
        prompt_groups, pad_id, model.device, additive=model.config._attn_implementation == "eager"
    )


def pack_rows(
    prompt_groups: Sequence[PromptGroup],
    pad_id: int,
    device: torch.device,
    *,
    additive: bool = False,
) -> PackedBatch:
    """Rows padded on the right. ``additive``: several answers are kept apart by a mask of 0 and a large negative number, not by a bool."""
    length = max(prompt_group.size for prompt_group in prompt_groups)
    ids, places, segments, targets, before, owner, first_and_last_decile = ([] for _ in range(7))  # type: ignore[var-annotated]
    for row, prompt_group in enumerate(prompt_groups):
        prompt, at = len(prompt_group.prompt), row * length
        blank = length - prompt_group.size
        ids.append(
            [*prompt_group.prompt, *chain.from_iterable(prompt_group.answers), *[pad_id] * blank]
        )
        places.append(
            [
                *range(prompt),
                *chain.from_iterable(range(prompt, prompt + len(a)) for a in prompt_group.answers),
                *[0] * blank,
            ]
        )
        segments.append(
            [
                *[0] * prompt,
                *chain.from_iterable([k + 1] * len(a) for k, a in enumerate(prompt_group.answers)),
                *[-1] * blank,
            ]
        )
        start = at + prompt
        for answer in prompt_group.answers:
            if answer:
                before += [at + prompt - 1, *range(start, start + len(answer) - 1)]
            owner += [len(first_and_last_decile)] * len(answer)
            targets += answer
            first_and_last_decile.append(start + len(answer) - 1 if answer else at + prompt - 1)
            start += len(answer)
    segment = torch.tensor(segments, device=device)
    attention = (segment >= 0).long()
    if any(len(prompt_group.answers) > 1 for prompt_group in prompt_groups):
        attention = _apart(segment, additive)

    def tensor(values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return PackedBatch(
        tensor(ids),
        tensor(places),
        attention,
        tensor(targets),
        tensor(before),
        tensor(owner),
        tensor(first_and_last_decile),
    )


def _apart(segment_RL: Tensor, additive: bool) -> Tensor:
    """Who may see whom, ``[R, 1, L, L]``: what is earlier, and in the prompt (segment 0) or in one's own segment."""
    mine, other = segment_RL[:, None, :, None], segment_RL[:, None, None, :]
    length = segment_RL.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment_RL.device).tril()
    # padding sees only padding: no row of the mask is empty, which would make NaN
    seen = causal & ((mine == other) | ((other == 0) & (mine > 0)))
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min) if additive else seen


def can_share_prefix(model: PreTrainedModel, longest: int) -> bool:
    """Whether rows can be read in parts: not by models with a state, nor beyond a sliding window."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    return not getattr(model, "_is_stateful", False) and (window is None or longest <= window)


_supports_tree_attention: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


@torch.no_grad()
def supports_tree_attention(model: PreTrainedModel) -> bool:
    """Whether a model reads a tree as it reads its answers one by one; tried once per model, since some families do not."""
    if model not in _supports_tree_attention:
        few = min(8, int(model.config.get_text_config().vocab_size))
        prompt_group = PromptGroup(
            [i % few for i in (1, 2, 3, 4)],
            [[i % few for i in (5, 6, 7)], [i % few for i in (8, 9)]],
        )
        additive = model.config._attn_implementation == "eager"
        together = pack_rows([prompt_group], 0, model.device, additive=additive)
        standalone = pack_rows(
            [PromptGroup(prompt_group.prompt, [answer]) for answer in prompt_group.answers],
            0,
            model.device,
        )
        try:
            one, two = (
                model.base_model(**packed.inputs).last_hidden_state.flatten(0, 1)[packed.before]
                for packed in (together, standalone)
            )
            _supports_tree_attention[model] = torch.allclose(
                one.float(), two.float(), rtol=1e-3, atol=1e-3
            )
        except (
            RuntimeError,
            ValueError,
            TypeError,
            IndexError,
        ):  # what families raise on a mask they do not take
            _supports_tree_attention[model] = False
    return _supports_tree_attention[model]
