"""Statistics over the valid entries of a padded tensor; whatever is in the padding never counts.

Shapes: ``B`` rows, ``T`` response positions. A mask is 1 (or True) where an entry is valid.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum the valid entries."""
    # torch.where, not a product: NaN times 0 is NaN
    return torch.where(mask.bool(), values, values.new_zeros(())).sum()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average the valid entries; 0 if there are none."""
    return masked_sum(values, mask) / mask.sum().clamp(min=1)


def masked_variance(values: Tensor, mask: Tensor) -> Tensor:
    """Compute the biased variance of the valid entries."""
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)


def whiten(values: Tensor, mask: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Scale the valid entries to mean 0 and variance 1, as in lm-human-preferences (``core.py``).

    Args:
        values: Any shape.
        mask: Same shape; only valid entries enter the mean and the (biased) variance.
        eps: Added to the variance, so that equal entries become 0 and not NaN.

    Returns:
        The scaled values, 0 in the padding.
    """
    mean = masked_mean(values, mask)
    scaled = (values - mean) * torch.rsqrt(masked_variance(values, mask) + eps)
    return torch.where(mask.bool(), scaled, scaled.new_zeros(()))
