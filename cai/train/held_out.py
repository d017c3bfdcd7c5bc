"""Which prompts a model is measured on, not trained."""

from __future__ import annotations

from cai.keys import uniform


def is_held_out(prompt_id: str, fraction: float, seed: int) -> bool:
    """Tell whether a prompt is among those that a model is measured on, not trained.

    Args:
        prompt_id: Id of the prompt.
        fraction: Fraction of the prompts to hold out.
        seed: Seed of the choice.
    """
    return uniform(seed, "held out", prompt_id) < fraction
