"""KL estimates and the controllers of the KL coefficient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Unbiased estimate of KL(pi || pi_ref) from samples of pi; may be negative for one sample."""
    return logprobs - ref_logprobs


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Unbiased and never negative: ``r - 1 - log r`` with ``r = pi_ref / pi`` (Schulman, "Approximating KL divergence")."""
    log_ratio = ref_logprobs - logprobs
    return log_ratio.exp() - 1 - log_ratio


@dataclass
class KLController:
    """The KL coefficient: fixed, or driven towards ``target`` nats per episode (arXiv 1909.08593, section 2.2)."""

    coef: float
    target: float | None = None
    horizon: int = 10_000

    def update(self, kl: float, trajectories: int) -> None:
        """``coef *= 1 + clip(kl / target - 1, -0.2, 0.2) * trajectories / horizon``; nothing without a target."""
        if self.target is not None:
            error = min(max(kl / self.target - 1, -0.2), 0.2)
            self.coef *= 1 + error * trajectories / self.horizon
