"""The estimate of the KL divergence from the reference, and the controller of its coefficient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

MAX_RELATIVE_ERROR = 0.2
"""Largest relative error that one step of the controller reacts to."""


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Estimate KL(pi || pi_ref) per token from samples of pi.

    The estimate is unbiased; for a single sample it may be negative (Schulman, "Approximating KL
    divergence").
    """
    return logprobs - ref_logprobs


@dataclass
class KLController:
    """The KL coefficient, fixed or adapted to a target KL (arXiv 1909.08593, section 2.2).

    Attributes:
        coef: The current coefficient.
        target: KL per trajectory, in nats, that the coefficient adapts to; None: it is fixed.
        horizon: Trajectories over which it adapts; larger is slower.
    """

    coef: float
    target: float | None = None
    horizon: int = 10_000

    def update(self, kl: float, trajectories: int) -> None:
        """Move the coefficient towards the target; without a target do nothing.

        ``coef *= 1 + clip(kl / target - 1, -0.2, 0.2) * trajectories / horizon``

        Args:
            kl: Mean KL per trajectory of the last rollout, in nats.
            trajectories: How many trajectories that rollout had.
        """
        if self.target is None:
            return
        error = kl / self.target - 1
        error = min(max(error, -MAX_RELATIVE_ERROR), MAX_RELATIVE_ERROR)
        self.coef *= 1 + error * trajectories / self.horizon
