"""``cai export --model`` and ``--push``: a model of a run with its card, and to a hub."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai.errors import InputError, LimitReached, Problem, did_you_mean
from cai.files import disk_errors, read_object, whole_folder, write_text
from cai.pipeline.layout import iteration_folders
from cai.pipeline.metrics import collect_metrics, open_for_reading
from cai.pipeline.policies import finished_policies
from cai.pipeline.run import CONSTITUTION_LOCK, Run
from cai.report.run_card import run_card

REWARD = "reward"
CARD = "README.md"


def export_model(folder: Path, name: str, out: Path, judge_report: Path | None = None) -> None:
    """Copy a model of a run, and complete its card by what the run knows of it.

    Args:
        folder: The folder of the run.
        name: A policy of the run, or ``reward``.
        out: The folder to write, which is new or empty.
        judge_report: A file of ``cai judge-report`` on the judge of the run.

    Raises:
        InputError: If the run has no such model, or the folder has something in it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError([Problem(str(out), "is not empty; name a new folder with --to")])
    with open_for_reading(folder) as run:
        source = _source(run, name)
        judges = run.config.judge_models
        judged = _judge_report(judge_report, judges) if judge_report else None
        metrics = collect_metrics(run)
        audits = [read_object(path / "audit.json") for path in iteration_folders(folder, "audit")]
        audit: dict[str, Any] = next(filter(None, reversed(audits)), {})
        card = run_card(name, ", ".join(judges), run.constitution, metrics, audit, judged)
    # half a model might be taken for a whole one
    with disk_errors(out), whole_folder(out) as begun:
        shutil.copytree(source, begun)
        shutil.copyfile(folder / CONSTITUTION_LOCK, begun / CONSTITUTION_LOCK)
        before = begun / CARD
        text = before.read_text(encoding="utf-8") if before.is_file() else f"# {name}\n"
        write_text(before, f"{text.rstrip()}\n\n{card}")
    print(f"wrote {name} with its card to {out}")


def push(out: Path, repository: str, kind: str, *, send: bool) -> None:
    """Send a folder to a repository of the Hugging Face hub, or say what would be sent.

    The token is that of the environment or of ``hf auth login``; it is not stored here.

    Args:
        out: The folder.
        repository: The repository, as ``owner/name``.
        kind: ``model`` or ``dataset``.
        send: Whether to send it.

    Raises:
        LimitReached: If the hub does not take it.
    """
    files = sorted(path for path in out.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    for path in files:
        print(f"{path.stat().st_size:>14,}  {path.relative_to(out)}")
    if not send:
        print(f"nothing was sent; to send these {size:,} bytes to {kind} {repository}: --yes")
        return
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api = HfApi()
        api.create_repo(repository, repo_type=kind, private=True, exist_ok=True)
        place = api.upload_folder(repo_id=repository, folder_path=str(out), repo_type=kind)
    except (HfHubHTTPError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LimitReached(f"{repository}: {reason}") from None
    print(f"sent {size:,} bytes: {place}")


def _source(run: Run, name: str) -> Path:
    """The folder of a trained model of a run."""
    known = {key: Path(path) for key, path in finished_policies(run).items() if key != "initial"}
    reward = iteration_folders(run.folder, REWARD)[-1] / "checkpoint"
    known |= {REWARD: reward} if reward.is_dir() else {}
    if name not in known:
        listed = ", ".join(known) or "none yet"
        text = f"the run has no trained model {name}{did_you_mean(name, known)}; it has {listed}"
        raise InputError([Problem("--model", text)])
    return known[name]


def _judge_report(path: Path, of_run: Sequence[str]) -> Mapping[str, Any]:
    """Read what a report says about the judges of a run, beside the baselines."""
    report = read_object(path)
    if not report or not isinstance(report.get("judges"), dict):
        raise InputError([Problem(str(path), "is no report of cai judge-report")])
    judges = report["judges"]
    kept = {name: judges[name] for name in judges if name.partition(", ")[0] in of_run}
    if not kept:
        about = f"but about {', '.join(judges)}"
        text = f"is not about the judge of the run, {', '.join(of_run)}, {about}"
        raise InputError([Problem(str(path), text)])
    return {**report, "judges": kept}
