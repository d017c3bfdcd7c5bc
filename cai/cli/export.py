"""``cai export``: the labels and revisions of a run as datasets for other tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from cai.cli.annotation import export_tasks
from cai.cli.export_model import export_model, push
from cai.cli.folders import RunFolder, run_folder
from cai.constitution.paper import paper_files
from cai.data.annotation_tasks import Tool
from cai.data.export import (
    MADE_WITH,
    Shape,
    card,
    completion_rows,
    preference_rows,
    transcript_rows,
    write_rows,
)
from cai.data.tables import Row
from cai.errors import InputError, Problem, did_you_mean
from cai.evaluate.audit import audit
from cai.feedback.revise import training_rows
from cai.files import read_records, write_text
from cai.pipeline.layout import iteration_folders
from cai.pipeline.metrics import open_for_reading
from cai.pipeline.rejudge import resolve_constitution
from cai.pipeline.stages import plan_stages
from cai.pipeline.states import stage_states
from cai.pipeline.unfit import unfit_labels
from cai.records import Preference, Revision
from cai.ties import NEAR_TIE

MIN_MARGIN = NEAR_TIE
"""Labels closer to one half are coin tosses, and other tools train on them as if they were sure."""
PAPER = "paper"
Facts = dict[str, Any]
"""What the dataset card says about the rows, by name."""


def export(
    folder: RunFolder = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder to write to; by default RUN/export.")
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="trl, transcripts (HH-RLHF), parquet; label-studio, argilla: pairs as tasks for "
            "people; paper: the prompt files of the paper, of a constitution in place of RUN.",
        ),
    ] = "trl",
    min_margin: Annotated[
        float,
        typer.Option(min=0, max=0.5, help="Leave out labels closer to one half; 0 for all."),
    ] = MIN_MARGIN,
    model: Annotated[
        str, typer.Option(help="A trained policy of the run, or reward, instead of its labels.")
    ] = "",
    judge_report: Annotated[
        Path | None, typer.Option(help="A file of cai judge-report, for the card of --model.")
    ] = None,
    repository: Annotated[
        str, typer.Option("--push", help="A repository of the Hugging Face hub, as OWNER/NAME.")
    ] = "",
    *,
    yes: Annotated[
        bool, typer.Option("--yes", help="Send what --push otherwise only lists.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write labels that the audit found unfit.")
    ] = False,
) -> None:
    """Write labels and revisions for other tools.

    Writes datasets that TRL and load_dataset read as they are, with a card. Labels near one half
    choose neither answer and are left out; the card and the screen say how many. With --model,
    copies a trained model, with a card on its constitution, judge, labels and evaluation.

    Example: cai export runs/quickstart --format parquet
    """
    if form == PAPER:
        _export_paper_files(folder, to)
        return
    shapes = (*get_args(Shape), *get_args(Tool), PAPER)
    if form not in shapes:
        text = f"must be {', '.join(shapes)}, not {form!r}{did_you_mean(form, shapes)}"
        raise InputError([Problem("--format", text)])
    folder = run_folder(folder)
    is_tasks = form in get_args(Tool)
    out = to or folder / (form if is_tasks else f"export-{model}" if model else "export")
    if is_tasks:
        export_tasks(folder, out, cast("Tool", form))
    elif model:
        export_model(folder, model, out, judge_report)
    else:
        export_run(folder, out, cast("Shape", form), min_margin, force=force)
    if repository:
        push(out, repository, "model" if model else "dataset", send=yes)


def _export_paper_files(source: Path | None, to: Path | None) -> None:
    """Write the prompt files of the paper, each only if it is not there."""
    constitution = resolve_constitution(str(source or run_folder(None)))
    out = to or Path(f"{constitution.name}-paper")
    files = paper_files(constitution)
    existing = [out / name for name in files if (out / name).exists()]
    if existing:
        text = "already exists; choose another folder with --to"
        raise InputError([Problem(str(path), text) for path in existing])
    for name, content in files.items():
        write_text(out / name, content)
    print(f"wrote {', '.join(files)} to {out}")


def export_run(
    folder: Path,
    out: Path,
    shape: Shape,
    min_margin: float = MIN_MARGIN,
    *,
    force: bool = False,
) -> None:
    """Write the ``preferences`` and ``revisions`` of a run, and a card that describes them.

    Args:
        folder: Folder of the run.
        out: Folder to write to.
        shape: Format of the rows.
        min_margin: Distance from one half, in probability, that a label needs to be written.
        force: Write labels that the audit found unfit to train on.

    Raises:
        InputError: if there is nothing to write, or the labels are unfit.
    """
    judged = _existing(folder, "judge", "records.jsonl")
    revised = folder / "revise" / "records.jsonl"
    if not judged and not revised.is_file():
        raise InputError([Problem(str(folder), "has neither labels nor revisions yet")])
    unfit = unfit_labels(folder)
    if unfit and not force:
        remedy = "to write the labels anyway: --force"
        raise InputError([Problem(str(folder), f"{reason}; {remedy}") for reason in unfit])
    _check_out(out)
    files: dict[str, Path] = {}
    facts = _constitution_facts(folder)
    if unfit:
        facts["unfit to train on"] = "; ".join(unfit)
    if judged:
        preferences = [p for path in judged for p in read_records(path, Preference)]
        rows, left_out = _preference_rows(preferences, shape, min_margin)
        files["preferences"] = write_rows(rows, out, "preferences", shape)
        facts |= {"preferences": len(rows), **_label_facts(preferences)}
        facts |= {f"left out: {reason}": count for reason, count in sorted(left_out.items())}
    if revised.is_file():
        revisions = training_rows(read_records(revised, Revision))
        completions = list(completion_rows(revisions))
        files["revisions"] = write_rows(completions, out, "revisions", shape)
        facts["revisions"] = len(completions)
    title = f"{folder.name}: preferences and revisions by a constitution"
    write_text(out / "README.md", card(title, files, facts))
    _print_summary(out, files, facts)


def _check_out(out: Path) -> None:
    """Refuse a folder that holds something else than an earlier export.

    Raises:
        InputError: With the reason.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError([Problem(str(out), "is a file; name a folder")])
    card_file = out / "README.md"
    is_own = card_file.is_file() and MADE_WITH in card_file.read_text("utf-8", errors="replace")
    if not is_own and any(out.iterdir()):
        text = "holds other things than an export, and is left as it is; name a new folder"
        raise InputError([Problem(str(out), text)])


def _existing(folder: Path, stage: str, name: str) -> list[Path]:
    """A file of a stage, for each iteration that has it."""
    paths = [stage_folder / name for stage_folder in iteration_folders(folder, stage)]
    return [path for path in paths if path.is_file()]


def _preference_rows(
    preferences: Sequence[Preference], shape: Shape, min_margin: float
) -> tuple[list[Row], Counter[str]]:
    """The rows of all labels that are clear enough, and how many are left out, by reason."""
    left_out = Counter[str]()
    clear: list[Preference] = []
    for preference in preferences:
        if preference.p_first is not None and abs(preference.p_first - 0.5) < min_margin:
            left_out[f"label closer than {min_margin:g} to one half"] += 1
        else:
            clear.append(preference)
    to_rows = transcript_rows if shape == "transcripts" else preference_rows
    return list(to_rows(clear, left_out)), left_out


def _print_summary(out: Path, files: dict[str, Path], facts: Facts) -> None:
    for name, path in files.items():
        print(f"{name:<14}{facts[name]:>8,}  {path}")
    for name, value in facts.items():
        if name.startswith("left out"):
            print(f"{name}: {value:,}")
    if "out of date" in facts:
        print(f"out of date: {facts['out of date']}")
    print(f"load with: datasets.load_dataset({str(out)!r}, {next(iter(files))!r})")


def _constitution_facts(folder: Path) -> Facts:
    """The constitution of labels and revisions, which need not be the current one."""
    if not (folder / "config.yaml").is_file():
        return {}
    with open_for_reading(folder) as run:
        states = stage_states(run, plan_stages(run.config)).values()
        facts: Facts = {"constitution": run.constitution.name}
    written = [state for state in states if state.name.partition("-")[0] in ("revise", "judge")]
    hashes = {state.name: state.constitution for state in written if state.constitution}
    if len(set(hashes.values())) == 1:
        facts["constitution hash"] = next(iter(hashes.values()))
    else:
        facts |= {f"constitution hash of {stage}": digest for stage, digest in hashes.items()}
    stale = [f"{state.name} ({', '.join(state.reasons)})" for state in written if state.is_stale]
    if stale:
        facts["out of date"] = "; ".join(stale)
    return facts


def _label_facts(preferences: list[Preference]) -> Facts:
    """What a reader of the labels should know about the judge."""
    metrics = audit(preferences)
    consistency = metrics["position"]["order_consistency"]
    flips = "asked in one order only" if consistency is None else f"{1 - consistency:.1%}"
    judgments = [judgment for p in preferences for judgment in p.judgments]
    return {
        "judge": ", ".join(sorted({p.judge for p in preferences})),
        "judge method": ", ".join(sorted({j.method for j in judgments})),
        "judge template": ", ".join(sorted({j.template for j in judgments})),
        "without a label": _percent(metrics["unscored"]),
        "near one half": _percent(metrics["near_ties"]),
        "flips with the order": flips,
        "longer answer wins": _percent(metrics["length"]["longer_wins"]),
    }


def _percent(share: dict[str, float]) -> str:
    return f"{share['value']:.1%}" if share["n"] else "no data"
