"""What a stage's result is made from, and what of it has changed since."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cai.files import sha256
from cai.keys import digest
from cai.pipeline.run import FORMAT, Run
from cai.pipeline.stages import Stage
from cai.templates import combined_hash

Origin = dict[str, Any]


def origin(run: Run, stage: Stage) -> Origin:
    """All that a stage's result depends on: its settings, what it reads, the constitution if it reads it, and its own version."""
    settings = run.config.model_dump(mode="json")
    reads_constitution = stage.uses_constitution(run.config)
    made_from = {
        # the shipped templates are code; a project's own are part of its constitution's hash
        "format": [FORMAT, stage.code, *([combined_hash()] if reads_constitution else [])],
        "settings": {"seed": run.config.seed, **{name: settings[name] for name in stage.sections}},
        "stages": {name: run.output_digest(name) for name in stage.inputs},
        "files": {
            name: _content(run.path(name)) or _content(Path(name))
            for name in stage.reads(run.config)
        },
        "models": _models(run) if "models" in stage.sections else {},
        "constitution": run.constitution.hash if reads_constitution else "",
    }
    return dict(json.loads(json.dumps(made_from)))  # as it comes back from the disk


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not as it was, in words."""
    said = [
        f"{name} {old} -> {new}"
        for name, old, new in _differing(before.get("settings", {}), now["settings"])
    ]
    said += [
        f"{name} came out otherwise"
        for name, _, _ in _differing(before.get("stages", {}), now["stages"])
    ]
    said += [
        f"{name} has another content"
        for name, _, _ in _differing(before.get("files", {}), now["files"])
    ]
    said += [
        f"the model {name} is another"
        for name, _, _ in _differing(before.get("models", {}), now["models"])
    ]
    said += ["the constitution"] if before.get("constitution") != now["constitution"] else []
    return said + (
        ["this version of cai does it otherwise"] if before.get("format") != now["format"] else []
    )


def _differing(
    before: Mapping[str, Any], now: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differing(old, new, f"{above}{name}.")
        elif old != new:
            yield f"{above}{name}", old, new


def _models(run: Run) -> dict[str, str]:
    """What identifies each model that is opened in this process; of the others only their names are known."""
    from cai.models.load import fingerprint

    config = run.config
    used = {config.models.initial, config.critic_model, config.judge_model}
    if config.models.reward is not None:
        used.add(config.models.reward)
    return {name: fingerprint(run.model(name)) for name in sorted(used) if ":" not in name}


def _content(path: Path) -> str:
    """Digest of a file, or of all files in a folder; empty for what is not there. A column may follow the name."""
    if not path.exists() and "#" in path.name:
        path = path.with_name(path.name.rpartition("#")[0])
    if path.is_dir():
        return digest(
            {p.relative_to(path).as_posix(): sha256(p) for p in path.rglob("*") if p.is_file()}
        )
    return sha256(path) if path.is_file() else ""
