"""Prompts, answers and labels that the training tests share."""

from cai.records import Comparison, Preference, Prompt

PROMPTS = [
    Prompt.of(f"{verb} the {thing}.")
    for verb in ("Wash", "Draw", "Feed", "Report", "Buy", "Read")
    for thing in ("dog", "boat", "letter", "lamp", "tree", "rose")
]
GOOD, BAD = "I am glad to help.", "You are a fool."


def preferences(p_first=1.0, source="ai"):
    """A label per prompt: the good answer is better with probability ``p_first``."""
    return [
        Preference(
            id=str(i),
            comparison=Comparison.of(prompt, GOOD, BAD),
            p_first=p_first,
            source=source,
        )
        for i, prompt in enumerate(PROMPTS)
    ]
