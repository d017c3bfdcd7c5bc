"""The Lagrange multiplier that keeps the mean of a second reward above a bound (Safe RLHF).

Safe RLHF is arXiv 2310.12773.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

WINDOW = 128
"""Number of recent answers that the mean of the constraint is taken over."""


@dataclass
class LagrangeMultiplier:
    """The weight of a constraint beside the reward, adapted until the constraint is met.

    The cost of Safe RLHF is the constraint with its sign reversed. Defaults are those of its code.

    Attributes:
        bound: Smallest acceptable mean of the constraint.
        value: The current multiplier.
        learning_rate: Step size on the logarithm of the multiplier.
        max_value: Upper limit of the multiplier.
        recent: Constraint scores of the last ``WINDOW`` answers.
    """

    bound: float
    value: float = 1.0
    learning_rate: float = 0.1
    max_value: float = 5.0
    recent: list[float] = field(default_factory=list)

    def update(self, constraints: Sequence[float]) -> None:
        """Take one step of gradient ascent on the logarithm of the multiplier (equation 9).

        It grows while the recent mean of the constraint is below the bound, else it shrinks.

        Args:
            constraints: The constraint's scores of the new answers.
        """
        self.recent = [*self.recent, *constraints][-WINDOW:]
        shortfall = self.bound - sum(self.recent) / len(self.recent)
        growth = math.exp(self.learning_rate * self.value * shortfall)
        self.value = min(self.value * growth, self.max_value)

    def combine(self, scores_B: Tensor, constraints_B: Tensor) -> Tensor:
        """Combine reward and constraint to one score per answer.

        The weights add up to 1, so the KL penalty means the same whatever the multiplier is.
        """
        return (scores_B + self.value * constraints_B) / (1 + self.value)
