"""What the audit found wrong with the labels, in the card of a model that was trained on them."""

from __future__ import annotations

from pathlib import Path

from cai import distributed
from cai.files import read_object, write_text
from cai.pipeline.layout import iteration_folders
from cai.pipeline.stage import StageContext


def unfit_labels(folder: Path) -> list[str]:
    """Why the audit found the labels of a run unfit to train on.

    Args:
        folder: The folder of the run.

    Returns:
        One text for each reason, with the stage that gave it.
    """
    return [
        f"{stage.name}: {reason}"
        for stage in iteration_folders(folder, "audit")
        for reason in (read_object(stage / "audit.json") or {}).get("gate_failures", ())
    ]


def warn_in_card(context: StageContext) -> None:
    """Add to the card of a stage's model that its labels were found unfit, if they were.

    Args:
        context: The stage, after its training.
    """
    card = context.checkpoint / "README.md"
    if not distributed.is_main() or not card.is_file():
        return
    if reasons := unfit_labels(context.run.folder):
        listed = "\n".join(f"- {reason}" for reason in reasons)
        warning = f"\n## Labels\n\nThe audit found the labels not fit to train on:\n\n{listed}\n"
        write_text(card, card.read_text(encoding="utf-8") + warning)
