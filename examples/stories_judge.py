"""A judge that is a plain rule: it prefers stories with a dog. The critic changes nothing."""

from collections.abc import Sequence

from cai.backends.scripted import ScriptedBackend
from cai.records import Message


def reply(messages: Sequence[Message], _seed: int) -> str:
    """Find no problem in a critique, and repeat the story in a revision."""
    is_critique = len(messages) == 3
    return "No problem: it is a story." if is_critique else messages[1].content


def score_options(messages: Sequence[Message], _options: tuple[str, ...]) -> tuple[float, float]:
    """Return log-probabilities of "yes" and "no" to: does this story have a problem?"""
    story = messages[-2].content.lower()
    return (-4.0, 0.0) if "dog" in story else (0.0, -4.0)


def make() -> ScriptedBackend:
    """Return the backend that a run file names as ``stories_judge:make``."""
    return ScriptedBackend(reply, score_options, name="likes dogs")


def gold(_prompt: object, answer: str) -> dict[str, bool]:
    """Measure an answer for the evaluation, by the same rule."""
    return {"dog": "dog" in answer.lower()}
