"""A backend whose answers come from a Python function: for tests, for examples, and for judges that are rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cai.backends.protocol import (
    Completion,
    LoglikelihoodRequest,
    OptionLogprobs,
    Request,
    Response,
)
from cai.records import Message

Reply = Callable[[Sequence[Message], int], str]
"""From a conversation and a seed to the answer."""
Weigh = Callable[[Sequence[Message], tuple[str, ...]], Sequence[float]]
"""From a conversation and options to the logarithm of each option's probability."""


class ScriptedBackend:
    """Answers by calling ``reply`` and ``weigh``; ``name`` stands in for a model's fingerprint."""

    def __init__(
        self, reply: Reply | None = None, weigh: Weigh | None = None, name: str = "scripted"
    ) -> None:
        self.fingerprint, self._reply, self._weigh = name, reply, weigh

    def render(self, request: Request) -> str:
        return "\n".join(f"{m.role}: {m.content}" for m in request.messages)

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for i, request in enumerate(requests):
            tokens_in = len(self.render(request).split())
            if isinstance(request, LoglikelihoodRequest):
                if self._weigh is None:
                    raise NotImplementedError(f"{self.fingerprint} cannot weigh options")
                yield (
                    i,
                    OptionLogprobs(
                        tuple(map(float, self._weigh(request.messages, request.options))), tokens_in
                    ),
                )
            else:
                if self._reply is None:
                    raise NotImplementedError(f"{self.fingerprint} cannot reply")
                text = self._reply(request.messages, request.seed)
                yield i, Completion(text, "stop", tokens_in, len(text.split()))
