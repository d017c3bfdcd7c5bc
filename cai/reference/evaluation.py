"""Gold metrics of the reference world: ``evaluate.gold: cai.reference.evaluation:gold``.

They are computed by the checkers of the world, which ask no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cai.constitution.schema import Principle
from cai.evaluate.gold import BuiltAnswers, CrossoverPair
from cai.records import Prompt
from cai.reference import gold as world_gold


class ReferenceGold:
    """The gold metrics of the reference world, see :class:`cai.evaluate.gold.GoldMetrics`."""

    def __call__(self, prompt: Prompt, answer: str) -> Mapping[str, float]:
        """Return the flags of an answer; none for a prompt from outside the world."""
        return {flag: float(value) for flag, value in world_gold.flags(prompt, answer).items()}

    def request_kind(self, prompt: Prompt) -> str | None:
        """Return the kind of request, such as ``insult`` or ``howto``."""
        return world_gold.request_kind(prompt)

    def violates(self, principle: Principle, prompt: Prompt, answer: str) -> bool | None:
        """Return whether an answer violates a principle; None outside the world."""
        flags = world_gold.flags(prompt, answer)
        if not flags:
            return None
        return any(flags[f"has_{name}"] for name in world_gold.attributes_of(principle))

    def crossover_pairs(
        self, principles: Sequence[Principle], count: int, seed: int
    ) -> Sequence[CrossoverPair]:
        """Build pairs of held-out answers with one fault each."""
        return world_gold.crossover_pairs(principles, count, seed)

    def built_answers(
        self, principles: Sequence[Principle], prompts: Sequence[Prompt]
    ) -> Sequence[BuiltAnswers]:
        """Build both answers to each prompt of the world that the principles cover."""
        return world_gold.built_answers(principles, prompts)

    def unknown_principles(self, principles: Sequence[Principle]) -> Sequence[str]:
        """Return a warning for each principle that the reference model has no concept of."""
        warnings = [world_gold.unknown_to_reference(principle) for principle in principles]
        return [warning for warning in warnings if warning]


gold = ReferenceGold()
"""The instance that run files name."""
