"""One optimiser over one model: the only file that knows how ``accelerate`` wraps and steps."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import tracking
from accelerate.accelerator import Accelerator
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.fsdp import FSDPModule

from cai import distributed
from cai.errors import InputError, Problem, RunFailed
from cai.quiet import quiet

SKIPS_IN_A_ROW = 5
"""Steps with a gradient that is not finite after which training has diverged."""
_WHOLE = StateDictOptions(
    full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False
)


class StepLoss(NamedTuple):
    """What one pass contributes to a step: the parts of all passes and processes add up to the batch's loss and figures."""

    loss: Tensor
    metrics: Mapping[str, Tensor] = {}


class Engine:
    """AdamW with linear warm-up and decay, gradient clipping, and a guard that never lets a NaN reach the weights."""

    @quiet()
    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        steps: int,
        warmup: float = 0.05,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        decay: bool = True,
    ) -> None:
        distributed.join()
        self.accelerator = Accelerator()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained,
            lr=learning_rate,
            betas=(0.9, 0.95),
            eps=1e-5,
            weight_decay=weight_decay,
            fused=True,
        )
        warm = max(1, round(warmup * steps))

        def factor(step: int) -> float:
            return min(
                (step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)) if decay else 1.0
            )

        prepared: tuple[Any, ...] = self.accelerator.prepare(model, optimizer)
        self.model: nn.Module = prepared[0]
        self.optimizer, self.max_grad_norm = prepared[1], max_grad_norm
        self.skipped = self._skipped_in_a_row = 0
        self._rate_at: Callable[[int], float] = lambda step: learning_rate * factor(step)
        self._go_to(0)

    @property
    def unwrapped(self) -> Any:
        """The module itself, without what accelerate wraps round it."""
        return self.accelerator.unwrap_model(self.model)

    # -- stepping ------------------------------------------------------------------------------------------------------

    @quiet()
    def step(self, micro_batches: Sequence[Callable[[], StepLoss]]) -> dict[str, float]:
        """Forward and backward through each pass, then one update; every process must bring as many passes.

        Returns the figures of the whole batch that are finite, ``loss`` and ``grad_norm`` (before clipping) among them. A step
        whose gradient is not finite is skipped and counted, and says so (``skipped``).

        Raises:
            RunFailed: after ``SKIPS_IN_A_ROW`` such steps; the weights are still finite.
        """
        sums: dict[str, Tensor] = {}
        for number, run in enumerate(micro_batches, start=1):
            with (
                self.accelerator.no_sync(self.model)
                if number < len(micro_batches)
                else contextlib.nullcontext()
            ):
                part = run()
                # gradients are averaged over processes, and parts add up
                self.accelerator.backward(part.loss * self.accelerator.num_processes)
            for name, value in {"loss": part.loss, **part.metrics}.items():
                sums[name] = sums.get(name, 0) + value.detach().float()  # type: ignore[operator]
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        totals = self.total(torch.stack([*sums.values()]))
        metrics = dict(
            zip(
                [*sums, "grad_norm"],
                torch.cat([totals, norm.detach().float().view(1)]).tolist(),
                strict=True,
            )
        )
        is_finite = math.isfinite(metrics["grad_norm"])
        return {
            name: value for name, value in metrics.items() if math.isfinite(value)
        } | self._update(is_finite)

    def _update(self, is_finite: bool) -> dict[str, float]:
        if is_finite:
            self.optimizer.step()
            self._skipped_in_a_row = 0
        else:
            self.skipped += 1
            self._skipped_in_a_row += 1
        self.optimizer.zero_grad()
        self._go_to(self.done + 1)
        if self._skipped_in_a_row >= SKIPS_IN_A_ROW:
            raise RunFailed(
                f"training diverged: {SKIPS_IN_A_ROW} steps in a row had a gradient that is not finite; lower the rate"
            )
        return {} if is_finite else {"skipped": 1.0}

    def _go_to(self, step: int) -> None:
        """Set the learning rate for a step. A torch scheduler warns if the first is skipped."""
        self.done = step
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate_at(step)

    def total(self, values: Tensor) -> Tensor:
        """The sum of each value over all processes."""
        summed: Tensor = (
            self.accelerator.reduce(values, "sum") if self.accelerator.num_processes > 1 else values
        )
        return summed

    @torch.no_grad()
    def start(self, example: object) -> None:
        """Run the module once. FSDP takes for its root what runs first, and within :meth:`summon_full_params` parts of it may run alone."""
        if isinstance(self.model, FSDPModule):
            self.model(example)

    @contextlib.contextmanager
    def summon_full_params(self) -> Iterator[None]:
        """Within it every process holds all weights, so that each may call the model as often as it likes (to generate)."""
        sharded = [module for module in self.model.modules() if isinstance(module, FSDPModule)]
        for module in sharded:
            module.set_reshard_after_forward(False)
            module.unshard()
        try:
            yield
        finally:
            for module in sharded:
                module.reshard()
                module.set_reshard_after_forward(True)

    # -- keeping -------------------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """All weights of the module, whole and on the CPU."""
        found: dict[str, Tensor] = self.accelerator.get_state_dict(self.model)
        return found

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that a later run needs to go on from here: tensors (trained weights, the optimiser's moments) and plain values.

        All processes have a part in it; the main one gets the tensors.
        """
        model, optimizer = self._parts()
        tensors = {f"model.{name}": tensor.clone() for name, tensor in model.items()}
        for name, moments in optimizer.get("state", {}).items():
            tensors |= {
                f"optimizer.{moment}.{name}": value.clone() for moment, value in moments.items()
            }
        return tensors, {"steps": self.done, "skipped": [self.skipped, self._skipped_in_a_row]}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go back to a :meth:`state`, whatever the number of processes it was kept by."""
        _, optimizer = self._parts()
        state: dict[str, Any] = {}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, moment, name = key.split(".", 2)
                state.setdefault(name, {})[moment] = tensor
        set_state_dict(
            self.model,
            self._bare_optimizer,
            options=dataclasses.replace(_WHOLE, broadcast_from_rank0=distributed.count() > 1),
            model_state_dict={
                key.removeprefix("model."): tensor
                for key, tensor in tensors.items()
                if key.startswith("model.")
            },
            optim_state_dict={"state": state, "param_groups": optimizer.get("param_groups", [])},
        )
        self._go_to(values["steps"])
        self.skipped, self._skipped_in_a_row = values["skipped"]

    def _parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        model, optimizer = get_state_dict(self.model, self._bare_optimizer, options=_WHOLE)
        return dict(model), dict(optimizer)

    @property
    def _bare_optimizer(self) -> Any:
        return getattr(self.optimizer, "optimizer", self.optimizer)


@quiet()
def with_trackers(
    log: Callable[[dict[str, float]], None], names: Sequence[str], project: str, folder: Path
) -> Callable[[dict[str, float]], None]:
    """The same log, which also tells trackers that accelerate knows by name; they keep what they write in ``folder``.

    Raises:
        InputError: if the package of a tracker is not installed.
    """
    if not names:
        return log
    if missing := set(names) - {str(kind) for kind in tracking.get_available_trackers()}:
        packages = " ".join(sorted(missing))
        message = f"needs a package that is not installed: pip install {packages}"
        raise InputError([Problem("trackers", message)])
    distributed.join()
    accelerator = Accelerator(log_with=list(names), project_dir=folder)
    accelerator.init_trackers(project)

    def write(row: dict[str, float]) -> None:
        log(row)
        metrics = {name: value for name, value in row.items() if isinstance(value, int | float)}
        accelerator.log(metrics, step=int(row.get("update", row.get("step", 0))))

    return write
