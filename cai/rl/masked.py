"""Statistics over the valid entries of a padded tensor; what stands in the padding never counts.

Shapes: ``B`` rows, ``T`` time. A mask is 1 (or True) where an entry is valid.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of the valid entries. ``where`` rather than a product, so that NaN in the padding stays there."""
    return torch.where(mask.bool(), values, values.new_zeros(())).sum()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the valid entries; 0 if there is none."""
    return masked_sum(values, mask) / mask.sum().clamp(min=1)


def masked_variance(values: Tensor, mask: Tensor) -> Tensor:
    """Biased variance of the valid entries."""
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """Scale the valid entries to variance 1, and to mean 0 unless ``shift_mean`` is off; the padding becomes 0.

    As in lm-human-preferences (``core.py: whiten``): biased variance, mean kept on request.
    """
    mean = masked_mean(values, mask)
    scaled = (values - mean) * torch.rsqrt(masked_variance(values, mask) + eps)
    if not shift_mean:
        scaled = scaled + mean
    return torch.where(mask.bool(), scaled, scaled.new_zeros(()))
