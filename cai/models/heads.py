"""The modules that are trained: a policy that gives the logits of wanted tokens, and a trunk that gives one number each.

Their forward is the whole of what a training step asks of a model, so that DistributedDataParallel and FSDP can wrap them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cai.models.packing.layout import PackedBatch, supports_tree_attention
from cai.models.packing.logits import answer_logits, has_plain_head, output_embeddings
from cai.models.scalar import answer_scores, token_values


class _Headed(nn.Module):
    def __init__(self, model: PreTrainedModel, precision: torch.dtype) -> None:
        super().__init__()
        self.model, self.precision = model, precision
        self._no_split_modules = model._no_split_modules  # where FSDP cuts
        supports_tree_attention(
            model
        )  # found out now: wrapped, the model can no longer be called in passing

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.model.device.type, self.precision, enabled=self.precision != torch.float32
        )


class Policy(_Headed):
    """A causal language model under training. With ``value``, a second head of one number per token, which starts at zero."""

    def __init__(
        self, model: PreTrainedModel, precision: torch.dtype = torch.float32, *, value: bool = False
    ) -> None:
        super().__init__(model, precision)
        has_plain_head(model)
        self.value: nn.Linear | None = None
        if value:  # zero: before the first update it must say nothing (lm-human-preferences)
            self.value = nn.Linear(output_embeddings(model).in_features, 1, device=model.device)
            nn.init.zeros_(self.value.weight)
            nn.init.zeros_(self.value.bias)

    def forward(self, packed: PackedBatch) -> tuple[Tensor, Tensor | None]:
        """Logits ``[N, V]`` of the answers' tokens, and the value ``[N]`` of the state before each, where there is a head for it."""
        with self._autocast():
            hidden, logits = answer_logits(self.model, packed)
            return logits, None if self.value is None else self.value(hidden).squeeze(-1).float()


class Scalar(_Headed):
    """A trunk under a scalar head under training."""

    def forward(self, packed: PackedBatch, values: bool = False) -> Tensor:
        """The score ``[A]`` of each answer, or the value ``[N]`` of the state before each of their tokens."""
        with self._autocast():
            of: Any = token_values if values else answer_scores
            found: Tensor = of(self.model, packed)
            return found
