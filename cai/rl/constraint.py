"""Raising one reward while the mean of another is held at a bound: a Lagrange multiplier (Safe RLHF, arXiv 2310.12773)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

WINDOW = 128
"""Answers over which the mean is taken."""


@dataclass
class LagrangeMultiplier:
    """The weight that a guarding score has beside the reward, so that the guard's mean comes to ``least`` or above.

    The cost of Safe RLHF is the guard with its sign turned round. Defaults are those of its code.
    """

    least: float
    value: float = 1.0
    rate: float = 0.1
    most: float = 5.0
    recent: list[float] = field(default_factory=list)

    def update(self, constraints: Sequence[float]) -> None:
        """One step of gradient ascent on the logarithm of the multiplier: it grows while the guard's mean is too low (equation 9)."""
        self.recent = [*self.recent, *constraints][-WINDOW:]
        short = self.least - sum(self.recent) / len(self.recent)
        self.value = min(self.value * math.exp(self.rate * self.value * short), self.most)

    def mixed(self, scores_B: Tensor, guards_B: Tensor) -> Tensor:
        """Both scores as one, of the same scale whatever the multiplier, so that the KL penalty weighs the same."""
        return (scores_B + self.value * guards_B) / (1 + self.value)
