"""What an edit of the constitution does to the policies: ``python benchmarks/constitution_edits.py OUT [--seeds 0 1 2]``.

For each seed the quick start is run with the constitution `reference`, then three times more from a copy of that run:
without the principle on insults, with the principle on formal language, and with one principle worded anew. Prints what
each edit moved, and how many model calls had to be made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
EDITS = ("without_insult", "with_formal", "reworded")


def project(folder: Path) -> Path:
    """A folder with the shipped principles and the edited constitutions."""
    for name in ("principles", "constitution"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    constitution = yaml.safe_load((folder / "constitution/reference.yaml").read_text())
    for use in ("revise", "judge"):
        constitution[use]["exclude"] = ["reference/formal", "reference/insult"]
        del constitution[use]["weights"]["reference/insult"]
    (folder / "constitution/without_insult.yaml").write_text(yaml.safe_dump(constitution))
    constitution = yaml.safe_load((folder / "constitution/reference.yaml").read_text())
    for use in ("revise", "judge"):
        del constitution[use]["exclude"]
        constitution[use]["weights"]["reference/formal"] = 4.0
    (folder / "constitution/with_formal.yaml").write_text(yaml.safe_dump(constitution))
    return folder


def reworded(folder: Path) -> None:
    """The same constitution, one of its sixteen principles in other words."""
    principle = folder / "principles/reference/boast.yaml"
    text = principle.read_text().replace("sounds vain or arrogant", "brags")
    assert "brags" in text
    principle.write_text(text)


def run(folder: Path, constitution: Path, seed: int, settings: list[str]) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "cai",
        "run",
        str(ROOT / "examples/quickstart.yaml"),
        "--run",
        str(folder),
    ]
    for setting in (f"constitution={constitution}", f"seed={seed}", *settings):
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    """What is compared: rates per policy, calls made and remembered."""
    policies = metrics["policies"]
    return {
        name: {
            "harmful": p["harmful_rate"],
            "helpful": p["helpful_rate"],
            "evasive": p["evasive_rate"],
            **{f"kind {k}": v for k, v in p["harmful_by_kind"].items()},
            "slang red": p["attributes"]["slang"]["eval_red_team"],
            "slang benign": p["attributes"]["slang"]["eval_benign"],
        }
        for name, p in policies.items()
    } | {
        "calls": {
            stage: [c["requests"], c["cached"]] for stage, c in metrics["cache"]["by_stage"].items()
        }
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=list(EDITS), choices=EDITS)
    parser.add_argument("--set", action="append", default=[], help="settings passed on to cai run")
    options = parser.parse_args()
    for seed in options.seeds:
        base = options.out / f"seed{seed}/base"
        constitution = project(options.out / "project") / "constitution/reference.yaml"
        print(
            json.dumps(
                {
                    "seed": seed,
                    "edit": "none",
                    **metrics(run(base, constitution, seed, options.set)),
                }
            ),
            flush=True,
        )
        for edit in options.only:
            folder = options.out / f"seed{seed}/{edit}"
            shutil.copytree(base, folder, dirs_exist_ok=True)
            edited = constitution.with_name(f"{edit}.yaml")
            if edit == "reworded":
                copy = project(options.out / "project_reworded")
                reworded(copy)
                edited = copy / "constitution/reference.yaml"
            print(
                json.dumps(
                    {"seed": seed, "edit": edit, **metrics(run(folder, edited, seed, options.set))}
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
