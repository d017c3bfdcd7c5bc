"""What a principle file and a constitution file may say, and what a loaded constitution is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from cai.cleaning import clean
from cai.keys import digest

CleanStr = Annotated[
    str, BeforeValidator(lambda value: clean(value) if isinstance(value, str) else value)
]
Text = Annotated[
    CleanStr, StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=20_000)
]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Use = Literal["revise", "judge"]

SLOTS = ("prompt",)
"""What a principle's text may name as ``{{ slot }}``: the user's last turn. All other braces are plain text."""
SLOT_PATTERN = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Example(_Part):
    """A prompt with an answer that keeps the principle and one that breaks it."""

    prompt: Text
    better: Text
    worse: Text


class PrincipleFile(_Part):
    """``principles/<theme>/<slug>.yaml``. Every text is optional: revising and judging may use different principles."""

    title: Text
    critique: Text | None = None
    revise: Text | None = None
    compare: Text | None = None
    examples: tuple[Example, ...] = ()
    tags: tuple[Text, ...] = ()
    notes: Text | None = None


class FewShotRevision(_Part):
    """One worked conversation shown before the model's own: the last answer, its critique and its revision."""

    prompt: Text
    answer: Text
    principle: Text  # the id of the principle it is about
    critique: Text
    revision: Text


class Selection(_Part):
    """Which principles are used for one purpose, and how often each is drawn."""

    principles: tuple[Text, ...] = ()
    exclude: tuple[Text, ...] = ()
    weights: Mapping[str, Weight] = {}


class ConstitutionFile(_Part):
    """``constitution/<name>.yaml``. Patterns are globs over principle ids; a later weight wins over an earlier one."""

    title: Text
    notes: Text | None = None
    include: tuple[Text, ...] = ()
    revise: Selection = Selection()
    judge: Selection = Selection()
    few_shot: tuple[FewShotRevision, ...] = ()


class Principle(_Part):
    """A principle with its id (its path below ``principles/``)."""

    id: str
    title: CleanStr
    critique: CleanStr | None = None
    revise: CleanStr | None = None
    compare: CleanStr | None = None
    examples: tuple[Example, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """Digest of the texts that models read; a changed title, tag or note leaves it as it was."""
        return _texts_hash(self.critique, self.revise, self.compare)


class Constitution(_Part):
    """A constitution with everything resolved: the principles, and for each use the weight of each of them."""

    name: str
    title: str
    principles: Mapping[str, Principle]
    weights: Mapping[Use, Mapping[str, float]]
    few_shot: tuple[FewShotRevision, ...] = ()

    @property
    def hash(self) -> str:
        """Digest of all that models read and of how it is drawn."""
        return digest(
            [
                sorted((p.id, p.hash) for p in self.principles.values()),
                [sorted(self.weights[use].items()) for use in ("revise", "judge")],
                [shot.model_dump() for shot in self.few_shot],
            ]
        )

    def used_for(self, use: Use) -> dict[str, float]:
        """The principles of one use that can be drawn, with their weights."""
        return {name: weight for name, weight in self.weights[use].items() if weight > 0}

    def without(self, *ids: str) -> Constitution:
        """The same constitution less some principles."""
        return self.model_copy(
            update={
                "principles": {k: v for k, v in self.principles.items() if k not in ids},
                "weights": {
                    u: {k: v for k, v in w.items() if k not in ids} for u, w in self.weights.items()
                },
            }
        )


def fill_slots(text: str, values: Mapping[str, str]) -> str:
    """Replace each ``{{ slot }}`` of the allow-list in one pass; what a value contains is never looked at again."""
    return SLOT_PATTERN.sub(lambda match: values.get(match.group(1), match.group(0)), text)


@lru_cache(maxsize=4096)
def _texts_hash(*texts: str | None) -> str:
    return digest(list(texts))
