"""The modules that are trained: a policy that predicts tokens, and a model with one number each.

Their ``forward`` is all that a training step asks of a model, so DistributedDataParallel and FSDP
can wrap them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cai.models.packing.layout import PackedBatch, check_reads_rows, supports_tree_attention
from cai.models.packing.logits import answer_logits, has_plain_head, output_embeddings
from cai.models.scalar import answer_scores, token_values


class _TrainedModel(nn.Module):
    """A transformers model and the precision of its forward pass."""

    def __init__(self, model: PreTrainedModel, precision: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.precision = precision
        self._no_split_modules = model._no_split_modules  # where FSDP cuts
        # tried now: once it is wrapped, the model cannot be called in passing
        check_reads_rows(model)
        supports_tree_attention(model)

    def _autocast(self) -> torch.autocast:
        is_narrow = self.precision != torch.float32
        return torch.autocast(self.model.device.type, self.precision, enabled=is_narrow)


class Policy(_TrainedModel):
    """A causal language model under training.

    Args:
        model: The language model.
        precision: Data type of the forward pass.
        value: Add a value head: one number per token, which starts at zero, so that it predicts
            nothing before the first update (lm-human-preferences).
    """

    def __init__(
        self, model: PreTrainedModel, precision: torch.dtype = torch.float32, *, value: bool = False
    ) -> None:
        super().__init__(model, precision)
        has_plain_head(model)
        self.value: nn.Linear | None = None
        if value:
            self.value = nn.Linear(output_embeddings(model).in_features, 1, device=model.device)
            nn.init.zeros_(self.value.weight)
            nn.init.zeros_(self.value.bias)

    def forward(self, packed: PackedBatch) -> tuple[Tensor, Tensor | None]:
        """Read a packed batch.

        Returns:
            Logits of the answers' tokens, ``[N, V]``, and the value of the state before each of
            them, ``[N]``; None without a value head.
        """
        with self._autocast():
            hidden, logits = answer_logits(self.model, packed)
        # outside: in bfloat16 values would be rounded, as scores are
        return logits, None if self.value is None else self.value(hidden.float()).squeeze(-1)


class Scalar(_TrainedModel):
    """A model with a scalar head under training: a reward model or a value model."""

    def forward(self, packed: PackedBatch, *, values: bool = False) -> Tensor:
        """Read a packed batch.

        Args:
            packed: Prompts with their answers.
            values: Return values of tokens instead of scores of answers.

        Returns:
            The score of each answer, ``[A]``, or the value of the state before each token, ``[N]``.
        """
        with self._autocast():
            if values:
                return token_values(self.model, packed)
            return answer_scores(self.model, packed)
