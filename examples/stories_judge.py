"""A judge that is a plain rule: it likes stories with a dog in them. Its critic leaves every story as it is."""

from collections.abc import Sequence

from cai.backends.scripted import ScriptedBackend
from cai.records import Message


def reply(messages: Sequence[Message], seed: int) -> str:
    """As a critic: nothing to say; as a reviser: the story as it was."""
    asked_to_criticise = len(messages) == 3
    return "No problem: it is a story." if asked_to_criticise else messages[1].content


def weigh(messages: Sequence[Message], options: tuple[str, ...]) -> tuple[float, float]:
    """Log-probabilities of "Problem" and "No problem": a story without a dog has a problem."""
    report_data = messages[-2].content.lower()
    return (-4.0, 0.0) if "dog" in report_data else (0.0, -4.0)


def make() -> ScriptedBackend:
    """The backend that ``stories_judge:make`` names in a run file."""
    return ScriptedBackend(reply, weigh, name="likes dogs")


def gold(prompt: object, answer: str) -> dict[str, bool]:
    """What an answer is, for the evaluation: the rule again."""
    return {"dog": "dog" in answer.lower()}
