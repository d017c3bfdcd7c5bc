"""Prices of the tokens that a run uses, as the settings of its servers have them."""

from __future__ import annotations

from collections.abc import Sequence

from cai.backends.batch_api import api_of
from cai.backends.server_address import addresses_of
from cai.config import RunConfig
from cai.config.servers import Address
from cai.models.names import is_server


def price_of(config: RunConfig, names: Sequence[str] = ()) -> str:
    """Return the price of a run's tokens, in the form of ``--price``.

    Of several servers the dearest counts, so that a budget is never exceeded.

    Args:
        config: The settings of the run.
        names: The models that are asked; by default those of the run.

    Returns:
        The prices of a million prompt tokens and generated tokens; empty if no server has a price.
    """
    names = names or (config.models.initial, config.critic_model, *config.judge_models)
    prices = [
        [amount * _factor(address) for amount in address.server.price]
        for name in names
        if is_server(name, config.servers)
        for address in addresses_of(name, config.servers)
        if address.server.price is not None
    ]
    if not prices:
        return ""
    read, written = (max(amounts) for amounts in zip(*prices, strict=True))
    return f"{read!r}/{written!r}"


def _factor(address: Address) -> float:
    """What a request costs as a fraction of the price: less in a batch."""
    return api_of(address.url).price if address.server.batch else 1.0
