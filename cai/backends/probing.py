"""Find out before the first request what servers can do, and whether they have one model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from cai.backends.capabilities import probe, probe_choosing, probe_continuation
from cai.backends.endpoint import Endpoint
from cai.backends.identity import identify
from cai.backends.protocol import Response
from cai.errors import InputError, LimitReached, Problem


class Needs(NamedTuple):
    """What requests need that not every server can do.

    Attributes:
        begun: An answer is begun, so that it has to be continued.
        choices: The responses that are wanted are named.
    """

    begun: bool = False
    choices: bool = False


async def probed(
    endpoints: Sequence[Endpoint], probes: list[Response], needs: Needs
) -> list[Endpoint]:
    """Probe all servers at once, each the first time.

    Args:
        endpoints: The servers.
        probes: The responses to what is asked are added to it, since they have to be paid for.
        needs: What the requests need.

    Returns:
        Those that can be used; the user is told of the others.

    Raises:
        LimitReached: If no server can be used.
        InputError: If a server refuses the key, does not know the model, or has another one.
    """
    for endpoint in endpoints:
        endpoint.probes = probes
    try:
        results = await asyncio.gather(*(_probe(e, needs) for e in endpoints))
    finally:
        for endpoint in endpoints:
            endpoint.probes = None
    usable = [e for e, error in zip(endpoints, results, strict=True) if error is None]
    if not usable:
        raise next(error for error in results if error is not None)
    for endpoint, error in zip(endpoints, results, strict=True):
        if error is not None:
            endpoint.note(f"is left out: {str(error).removeprefix(endpoint.url).lstrip(': ')}")
    _compare(usable)
    return usable


async def _probe(endpoint: Endpoint, needs: Needs) -> LimitReached | None:
    """Probe a server if it was not probed before; return why it cannot be used."""
    state = endpoint.state
    try:
        if state.capabilities is None:
            can = await probe(endpoint, enable_thinking=endpoint.thinks)
            state.identity = await identify(endpoint, can)
            for text in can.limitations():
                endpoint.note(text)
            state.capabilities = can
        can = state.capabilities
        # a begun answer or a list of choices would keep a model from reasoning
        is_asked = endpoint.is_chat and not can.reasons
        if needs.begun and is_asked and can.continuation is None:
            can.continuation = await probe_continuation(endpoint, can)
            if can.continuation == "none":
                endpoint.note("does not continue a begun answer: options are asked for in words")
        if needs.choices and is_asked and can.choosing is None:
            can.choosing = await probe_choosing(endpoint, can)
    except LimitReached as error:
        return error
    return None


def _compare(endpoints: Sequence[Endpoint]) -> None:
    """Refuse servers that have different models under one name.

    Raises:
        InputError: With the difference.
    """
    first = endpoints[0]
    for other in endpoints[1:]:
        one, two = first.state.identity, other.state.identity
        if one is not None and two is not None and (what := one.difference(two)):
            text = f"are different models ({what}); give each a role of its own"
            raise InputError([Problem(f"{first.url}, {other.url}", text)])
