"""The manifest of a stage: what its result was made from, what it wrote, and what it measured.

A stage is finished once its manifest is written, which happens last. A stage that failed has a
``failed.json`` in its place.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cai import distributed
from cai.files import read_object, report_damaged, sha256, write_json
from cai.keys import digest

MANIFEST, FAILURE = "manifest.json", "failed.json"
_NOT_OUTPUTS = (MANIFEST, FAILURE, "log.jsonl", "answers.jsonl")


@dataclass(frozen=True)
class Manifest:
    """What is known of a finished stage.

    Attributes:
        stage: Its name.
        inputs: All that its result depends on; see :func:`cai.pipeline.provenance.stage_inputs`.
        constitution: Hash of the run's constitution when the stage was done.
        seconds: How long it took.
        finished: When it was finished, in local time.
        versions: Versions of the libraries that results depend on.
        metrics: What it measured.
        failures: Requests that failed, by reason; the next run sends them again.
        outputs: Digest of each file that it wrote, by its path in the stage's folder.
    """

    stage: str
    inputs: dict[str, Any]
    constitution: str
    seconds: float
    finished: str
    versions: dict[str, str]
    metrics: dict[str, Any]
    failures: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def output_digest(self) -> str:
        """Digest of everything that the stage wrote."""
        return digest(self.outputs)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished stage; None if the stage is not finished.

    A manifest that another version of cai wrote in another form has empty inputs, so that its
    stage counts as out of date.

    Args:
        folder: The folder of the stage.
    """
    path = folder / MANIFEST
    values = read_object(path)
    if values is None:
        return None
    known = {name: values[name] for name in Manifest.__dataclass_fields__ if name in values}
    empty = asdict(Manifest(folder.name, {}, "", 0.0, "", {}, {}))
    if any(
        isinstance(default, dict) and not isinstance(known.get(name, {}), dict)
        for name, default in empty.items()
    ):
        report_damaged(path)
        return None
    return Manifest(**(empty | known))


def write_manifest(
    folder: Path,
    inputs: dict[str, Any],
    constitution: str,
    metrics: dict[str, Any],
    failures: dict[str, int],
    seconds: float,
) -> None:
    """Write the manifest of a stage, which is what makes it finished.

    Args:
        folder: The folder of the stage.
        inputs: All that its result depends on.
        constitution: Hash of the run's constitution.
        metrics: What it measured.
        failures: Requests that failed, by reason.
        seconds: How long it took.
    """
    files = sorted(path for path in folder.rglob("*") if _is_output(path))
    manifest = Manifest(
        stage=folder.name,
        inputs=inputs,
        constitution=constitution,
        seconds=round(seconds, 1),
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        versions=versions(),
        metrics=metrics,
        failures=failures,
        outputs={path.relative_to(folder).as_posix(): sha256(path) for path in files},
    )
    distributed.on_main(write_json, folder / MANIFEST, asdict(manifest))


def failed_requests(failures: Mapping[str, int]) -> str:
    """The failed requests of a stage in words, with the most frequent reason.

    Args:
        failures: Their number by reason.
    """
    total = sum(failures.values())
    reason = next(iter(failures), "")
    noun = "request" if total == 1 else "requests"
    return f"{total:,} {noun} failed" + (f" ({reason})" if reason else "")


def outputs_are_whole(folder: Path, manifest: Manifest) -> bool:
    """Whether all files of a finished stage are as they were written.

    Args:
        folder: The folder of the stage.
        manifest: Its manifest.
    """
    return all(
        (folder / name).is_file() and sha256(folder / name) == expected
        for name, expected in manifest.outputs.items()
    )


def write_failure(folder: Path, message: str) -> None:
    """Note that a stage failed.

    Args:
        folder: The folder of the stage.
        message: Why.
    """
    failure = {"stage": folder.name, "error": message}
    distributed.on_main(write_json, folder / FAILURE, failure)


def read_failure(folder: Path) -> str:
    """Why a stage failed; empty if it did not.

    Args:
        folder: The folder of the stage.
    """
    failure = read_object(folder / FAILURE) or {}
    return str(failure.get("error", ""))


def unfinish(folder: Path) -> None:
    """Make a stage unfinished, before it is done again.

    Args:
        folder: The folder of the stage.
    """
    for name in (MANIFEST, FAILURE):
        (folder / name).unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Versions of the libraries that results depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("cai", "torch", "transformers", "accelerate")}


def _is_output(path: Path) -> bool:
    return path.is_file() and path.name not in _NOT_OUTPUTS and not path.name.startswith(".")
