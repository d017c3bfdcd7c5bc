"""Better answers by people: a file in the run that supervised fine-tuning reads as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai.records import Revision
from cai.studio.json_lines import JsonLines

DEMONSTRATIONS = "demonstrations.jsonl"
"""The file of a run that holds the answers that people wrote."""


def demonstration_row(revision: Revision, answer: str, rater: str) -> dict[str, Any]:
    """Make the row of an answer that a person wrote in place of a revision.

    Args:
        revision: The revision.
        answer: The better answer.
        rater: Name of the person.
    """
    return {
        "prompt": [message.model_dump() for message in revision.sample.prompt.messages],
        "completion": answer,
        "source": "human",
        "rater": rater,
        "revision": revision.id,
        "principles": [step.principle for step in revision.steps],
    }


class DemonstrationFile(JsonLines):
    """The answers that people wrote in a run. Several processes may add to it.

    Args:
        folder: The folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / DEMONSTRATIONS, _is_demonstration, "a demonstration")

    def by(self, rater: str) -> dict[str, str]:
        """The answers of a person by the id of the revision.

        Args:
            rater: Name of the person.
        """
        return {row["revision"]: row["completion"] for row in self.rows() if row["rater"] == rater}

    def save(self, row: Mapping[str, Any]) -> None:
        """Add an answer; it replaces an earlier one by the same person to the same revision.

        Args:
            row: The answer, from :func:`demonstration_row`.

        Raises:
            LimitReached: If the file cannot be written.
        """
        self.append(row)
        # only now is the earlier one removed, so that an end in between loses nothing
        self.remove(lambda rows: [i for i, r in enumerate(rows) if _key(r) == _key(row)][:-1])


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["rater"], row["revision"]


def _is_demonstration(row: Mapping[str, Any]) -> bool:
    """Whether a row is one that :func:`demonstration_row` made."""
    return all(isinstance(row.get(name), str) for name in ("completion", "rater", "revision"))
