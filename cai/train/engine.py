"""One optimiser over one model: the only file that knows ``accelerate``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from accelerate.accelerator import Accelerator
from torch import Tensor, nn

from cai.errors import RunFailed

SKIPS_IN_A_ROW = 5
"""Steps with a gradient that is not finite after which training has diverged."""


class Engine:
    """AdamW with linear warm-up and decay, gradient clipping, and a guard that never lets a NaN reach the weights."""

    def __init__(
        self, model: nn.Module, *, rate: float, steps: int, warmup: float = 0.05, weight_decay: float = 0.0, clip: float = 1.0,
        decay: bool = True,
    ) -> None:  # fmt: skip
        self.accelerator = Accelerator()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.95), eps=1e-5, weight_decay=weight_decay)
        warm = max(1, round(warmup * steps))

        def factor(step: int) -> float:
            return min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)) if decay else 1.0)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        prepared: tuple[Any, ...] = self.accelerator.prepare(model, optimizer)
        self.model: nn.Module = prepared[0]
        self.optimizer, self.schedule, self.clip = prepared[1], schedule, clip
        self.skipped = self._skipped_in_a_row = 0

    @property
    def plain(self) -> Any:
        """The model itself, without what accelerate wraps round it."""
        return self.accelerator.unwrap_model(self.model)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that a later run needs to go on from here: tensors (weights, moments of the optimiser) and plain values."""
        tensors = {f"model.{name}": p.detach().cpu().clone() for name, p in self.plain.named_parameters()}
        kept = self.optimizer.state_dict()
        tensors |= {f"optimizer.{i}.{name}": t.cpu().clone() for i, moments in kept["state"].items() for name, t in moments.items()}
        rates = [group["lr"] for group in kept["param_groups"]]
        return tensors, {"rates": rates, "steps": self.schedule.last_epoch, "skipped": [self.skipped, self._skipped_in_a_row]}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go back to a :meth:`state`."""
        with torch.no_grad():
            for name, p in self.plain.named_parameters():
                p.copy_(tensors[f"model.{name}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, i, moment = name.split(".")
                moments.setdefault(int(i), {})[moment] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        for group, rate in zip(self.optimizer.param_groups, values["rates"], strict=True):
            group["lr"] = rate
        self.schedule.last_epoch = values["steps"]
        self.skipped, self._skipped_in_a_row = values["skipped"]

    def step(self, losses: Iterable[Tensor]) -> float:
        """Backward through each (micro-batch) loss, then one update; returns the gradient norm before clipping.

        A step whose gradient is not finite is skipped and counted.

        Raises:
            RunFailed: after ``SKIPS_IN_A_ROW`` such steps; the weights are still finite.
        """
        for loss in losses:
            self.accelerator.backward(loss)
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip) or 0.0)
        if math.isfinite(norm):
            self.optimizer.step()
            self._skipped_in_a_row = 0
        else:
            self.skipped += 1
            self._skipped_in_a_row += 1
        self.optimizer.zero_grad()
        self.schedule.step()
        if self._skipped_in_a_row >= SKIPS_IN_A_ROW:
            raise RunFailed(f"training diverged: {SKIPS_IN_A_ROW} steps in a row had a gradient that is not finite; lower the rate")
        return norm
