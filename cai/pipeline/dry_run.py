"""What is known of a run before any model is asked, for stages to count their requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cai.backends.protocol import GenerateRequest, Request
from cai.config import RunConfig
from cai.constitution.schema import Constitution
from cai.data.prompts import by_kind
from cai.records import Prompt
from cai.words import estimated_tokens


class RequestCount(NamedTuple):
    """Requests of one kind that a stage makes.

    Attributes:
        requests: Number of requests, at most.
        tokens_in: Estimated prompt tokens of one request.
        max_tokens: Maximum tokens of one response.
    """

    requests: int
    tokens_in: float
    max_tokens: int


@dataclass(frozen=True)
class DryRun:
    """A run whose models have not been asked yet.

    Attributes:
        config: The settings.
        constitution: The constitution.
        prompts: All prompts that the run uses.
    """

    config: RunConfig
    constitution: Constitution
    prompts: Sequence[Prompt]

    def of_kind(self, *kinds: str) -> list[Prompt]:
        """The prompts of some sets.

        Args:
            kinds: The sets, such as ``red_team``.
        """
        return [prompt for kind in kinds for prompt in by_kind(self.prompts, kind)]

    @property
    def principle_tokens(self) -> float:
        """Estimated tokens of a principle's critique or revision request."""
        texts: list[str] = []
        for principle in self.constitution.principles.values():
            texts += [text for text in (principle.critique, principle.revise) if text]
        return mean_tokens(texts)


def prompt_tokens(prompts: Sequence[Prompt]) -> float:
    """Estimated mean tokens of some prompts.

    Args:
        prompts: The prompts.
    """
    return mean_tokens([" ".join(turn.content for turn in p.messages) for p in prompts])


def mean_tokens(texts: Sequence[str]) -> float:
    """Estimated mean tokens of some texts; 0 if there are none.

    Args:
        texts: The texts.
    """
    return sum(map(estimated_tokens, texts)) / max(1, len(texts))


def max_tokens_of(requests: Sequence[Request]) -> int:
    """Maximum tokens of a response to any of some requests; an option is one token.

    Args:
        requests: The requests.
    """
    return max([r.max_tokens for r in requests if isinstance(r, GenerateRequest)], default=1)
