"""One optimizer over one model: the only file that knows how ``accelerate`` wraps and steps."""

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
from transformers import get_scheduler

from cai import distributed
from cai.config.training import Optimizer
from cai.errors import InputError, Problem, RunFailed
from cai.quiet import quiet

MAX_SKIPPED_STEPS = 5
"""Consecutive steps with a non-finite gradient after which training has diverged."""
FULL_STATE = StateDictOptions(
    full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False
)


class StepLoss(NamedTuple):
    """What one micro-batch adds to a step.

    Attributes:
        loss: Its share of the batch's loss, a scalar. The shares of all micro-batches and processes
            add up to the loss of the batch.
        metrics: Its shares of further metrics of the batch, scalars by name, which add up likewise.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = {}


class EngineState(NamedTuple):
    """All that an engine needs to continue from a step.

    Attributes:
        tensors: Trained weights and moments of the optimizer, by name, on the CPU.
        values: The number of steps done and of steps skipped.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def learning_rate_schedule(
    name: str, peak: float, steps: int, warmup: float
) -> Callable[[int], float]:
    """Return a function from a step, from 0, to its learning rate.

    Args:
        name: ``linear``, or another schedule by transformers' name for it.
        peak: Peak learning rate.
        steps: Number of steps in all.
        warmup: Fraction of the steps in which the rate rises.
    """
    if name == "linear":
        return lambda step: peak * linear_schedule(step, steps, warmup)
    # the library ties a schedule to an optimizer; only its function of the step is needed
    holder = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    schedule: Any = get_scheduler(
        name, holder, num_warmup_steps=round(warmup * steps), num_training_steps=max(1, steps)
    )
    (factor,) = schedule.lr_lambdas
    return lambda step: peak * float(factor(step))


def linear_schedule(step: int, steps: int, warmup: float) -> float:
    """Compute the fraction of the peak learning rate at a step: linear warm-up, linear decay to 0.

    Args:
        step: The step, from 0.
        steps: Number of steps in all.
        warmup: Fraction of the steps in which the rate rises.
    """
    warmup_steps = max(1, round(warmup * steps))
    rising = (step + 1) / warmup_steps
    falling = max(0.0, (steps - step) / max(1, steps - warmup_steps))
    return min(rising, falling)


class Engine:
    """AdamW with a schedule, gradient clipping, and a guard against non-finite gradients.

    Args:
        model: The module to train; parameters that require no gradient stay as they are.
        learning_rate: Peak learning rate.
        steps: Number of optimizer steps that the schedule is for.
        config: Schedule, weight decay and clipping; None: the defaults.

    Attributes:
        model: The module as accelerate wraps it; call this one in a training step.
        steps_done: Number of steps done, skipped ones included.
        skipped: Number of steps skipped because their gradient was not finite.
    """

    @quiet()
    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        steps: int,
        config: Optimizer | None = None,
    ) -> None:
        config = config or Optimizer()
        distributed.join()
        self.accelerator = Accelerator()
        optimizer = torch.optim.AdamW(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=learning_rate,
            betas=(0.9, 0.95),
            eps=1e-5,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.model, self.optimizer = self._prepare(model, optimizer)
        self.max_grad_norm = config.max_grad_norm
        self.skipped = 0
        self._skipped_in_a_row = 0
        self._learning_rate_at = learning_rate_schedule(
            config.lr_scheduler, learning_rate, steps, config.warmup_ratio
        )
        self._go_to(0)

    @property
    def unwrapped(self) -> Any:
        """The module itself, without accelerate's wrappers, to save it or read its attributes."""
        return self.accelerator.unwrap_model(self.model)

    # -- stepping ----------------------------------------------------------------------------

    @quiet()
    def step(self, micro_batches: Sequence[Callable[[], StepLoss]]) -> dict[str, float]:
        """Accumulate the gradients of some micro-batches and update the weights once. Collective.

        A step whose gradient is not finite leaves the weights alone and is counted as ``skipped``.

        Args:
            micro_batches: Functions that compute the loss of one micro-batch each. Every process
                must bring the same number.

        Returns:
            The metrics of the whole batch that are finite, with ``loss`` and ``grad_norm`` (before
            clipping); ``skipped`` is 1 in a skipped step and missing in others.

        Raises:
            RunFailed: After ``MAX_SKIPPED_STEPS`` skipped steps in a row.
        """
        sums: dict[str, Tensor] = {}
        for number, compute_loss in enumerate(micro_batches, start=1):
            is_last = number == len(micro_batches)
            # gradients are exchanged between processes once, after the last backward pass
            with contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.model):
                result = compute_loss()
                self._backward(result.loss)
            for name, value in {"loss": result.loss, **result.metrics}.items():
                share = value.detach().float()
                sums[name] = sums[name] + share if name in sums else share
        grad_norm = self._clip_gradients()
        totals = torch.cat([self.total(torch.stack([*sums.values()])), grad_norm.view(1)])
        metrics = dict(zip([*sums, "grad_norm"], totals.tolist(), strict=True))
        is_finite = math.isfinite(metrics["grad_norm"])
        self._update(is_finite=is_finite)
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        return metrics if is_finite else metrics | {"skipped": 1.0}

    def _update(self, *, is_finite: bool) -> None:
        """Step the optimizer, unless the gradient is not finite, and move the schedule on."""
        if is_finite:
            self.optimizer.step()
            self._skipped_in_a_row = 0
        else:
            self.skipped += 1
            self._skipped_in_a_row += 1
        self.optimizer.zero_grad()
        self._go_to(self.steps_done + 1)
        if self._skipped_in_a_row >= MAX_SKIPPED_STEPS:
            raise RunFailed(
                f"training diverged: the gradient was not finite in {MAX_SKIPPED_STEPS} "
                "consecutive steps; lower the learning rate"
            )

    def _go_to(self, step: int) -> None:
        """Set the learning rate of a step.

        It is set here, because torch's schedulers warn if the first step is skipped.
        """
        self.steps_done = step
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate_at(step)

    @torch.no_grad()
    def start(self, example: object) -> None:
        """Run the module once on an example. Collective.

        FSDP takes the module that runs first for its root, and within :meth:`summon_full_params`
        a part of the model may run by itself.
        """
        if isinstance(self.model, FSDPModule):
            self.model(example)

    @contextlib.contextmanager
    def summon_full_params(self) -> Iterator[None]:
        """Let every process hold all weights meanwhile. Collective.

        Within it a process may call the model on its own as often as it likes, to generate answers
        for instance. Without FSDP this does nothing.
        """
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

    # -- saving ------------------------------------------------------------------------------

    def state(self) -> EngineState:
        """Collect what :meth:`restore` needs. Collective; the main process gets the tensors."""
        weights, optimizer = self._full_state()
        tensors = {f"model.{name}": tensor.clone() for name, tensor in weights.items()}
        for parameter, moments in optimizer.get("state", {}).items():
            for moment, tensor in moments.items():
                tensors[f"optimizer.{moment}.{parameter}"] = tensor.clone()
        skipped = [self.skipped, self._skipped_in_a_row]
        return EngineState(tensors, {"steps": self.steps_done, "skipped": skipped})

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go back to a :meth:`state`, whatever number of processes saved it. Collective."""
        _, optimizer = self._full_state()
        weights: dict[str, Any] = {}
        moments: dict[str, Any] = {}
        for key, tensor in tensors.items():
            kind, name = key.split(".", 1)
            if kind == "model":
                weights[name] = tensor
            else:
                moment, parameter = name.split(".", 1)
                moments.setdefault(parameter, {})[moment] = tensor
        set_state_dict(
            self.model,
            self._bare_optimizer,
            options=dataclasses.replace(FULL_STATE, broadcast_from_rank0=distributed.count() > 1),
            model_state_dict=weights,
            optim_state_dict={"state": moments, "param_groups": optimizer.get("param_groups", [])},
        )
        self._go_to(values["steps"])
        self.skipped, self._skipped_in_a_row = values["skipped"]

    def _full_state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Gather the trained weights and the state of the optimizer from all processes."""
        model, optimizer = get_state_dict(self.model, self._bare_optimizer, options=FULL_STATE)
        return dict(model), dict(optimizer)

    @property
    def _bare_optimizer(self) -> Any:
        return getattr(self.optimizer, "optimizer", self.optimizer)

    # -- accelerate, which has no types ------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """Gather all weights of the module, frozen ones included, on the CPU. Collective."""
        weights: dict[str, Tensor] = self.accelerator.get_state_dict(self.model)  # type: ignore[no-untyped-call]
        return weights

    def total(self, values: Tensor) -> Tensor:
        """Sum each value over all processes. Collective."""
        if self.accelerator.num_processes == 1:
            return values
        summed: Tensor = self.accelerator.reduce(values, "sum")  # type: ignore[no-untyped-call]
        return summed

    def _prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Wrap a model and its optimizer as ``accelerate launch`` was told to."""
        model, optimizer = self.accelerator.prepare(model, optimizer)  # type: ignore[no-untyped-call]
        return model, optimizer

    def _backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss; those of all processes and micro-batches add up."""
        # DDP and FSDP average over processes; multiplied by their number, that is a sum
        self.accelerator.backward(loss * self.accelerator.num_processes)  # type: ignore[no-untyped-call]

    def _clip_gradients(self) -> Tensor:
        """Clip the gradients and return their norm before that, a scalar."""
        parameters = self.model.parameters()
        norm = self.accelerator.clip_grad_norm_(parameters, self.max_grad_norm)  # type: ignore[no-untyped-call]
        full_norm: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        return full_norm.detach().float()


@quiet()
def with_trackers(
    log: Callable[[dict[str, Any]], None], names: Sequence[str], project: str, folder: Path
) -> Callable[[dict[str, Any]], None]:
    """Extend a log so that it also writes to experiment trackers.

    Args:
        log: The log to extend.
        names: Trackers, by accelerate's names for them.
        project: Name of the project in the trackers.
        folder: Where trackers that write files keep them.

    Returns:
        The extended log; the given one if there are no names.

    Raises:
        InputError: If the package of a tracker is not installed.
    """
    if not names:
        return log
    missing = set(names) - _available_trackers()
    if missing:
        packages = " ".join(sorted(missing))
        message = f"needs a package that is not installed: pip install {packages}"
        raise InputError([Problem("trackers", message)])
    distributed.join()
    accelerator = Accelerator(log_with=list(names), project_dir=folder)
    accelerator.init_trackers(project)

    def log_everywhere(row: dict[str, Any]) -> None:
        log(row)
        metrics = {name: value for name, value in row.items() if isinstance(value, int | float)}
        accelerator.log(metrics, step=int(row.get("update", row.get("step", 0))))

    return log_everywhere


def _available_trackers() -> set[str]:
    return {str(kind) for kind in tracking.get_available_trackers()}  # type: ignore[no-untyped-call]
