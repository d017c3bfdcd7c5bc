"""Measure what edits of the constitution do to the policies.

    python benchmarks/constitution_edits.py OUT [--seeds 0 1 2]

For each seed, runs the quick start with the constitution ``reference``, then three more times from
a copy of that run: without the principle on insults, with the principle on formal language, and
with one principle in other words. Prints the rates of each run, and how many requests it made.
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


def make_project(folder: Path) -> Path:
    """Write the shipped principles and the edited constitutions to a folder; return the original.

    Returns:
        The file of the constitution without edits; the edited ones are beside it.
    """
    for name in ("principles", "constitution"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    reference = folder / "constitution/reference.yaml"
    constitution = yaml.safe_load(reference.read_text())
    for use in ("revise", "judge"):
        constitution[use]["exclude"] = ["reference/formal", "reference/insult"]
        del constitution[use]["weights"]["reference/insult"]
    reference.with_name("without_insult.yaml").write_text(yaml.safe_dump(constitution))
    constitution = yaml.safe_load(reference.read_text())
    for use in ("revise", "judge"):
        del constitution[use]["exclude"]
        constitution[use]["weights"]["reference/formal"] = 4.0
    reference.with_name("with_formal.yaml").write_text(yaml.safe_dump(constitution))
    return reference


def make_reworded_project(folder: Path) -> Path:
    """Write the shipped constitution with one of its principles in other words; return its file."""
    reference = make_project(folder)
    principle = folder / "principles/reference/boast.yaml"
    text = principle.read_text()
    reworded = text.replace("sounds vain or arrogant", "brags")
    if reworded == text:
        sys.exit(f"{principle}: the words to replace were not found")
    principle.write_text(reworded)
    return reference


def run_quickstart(
    folder: Path, constitution: Path, seed: int, settings: list[str]
) -> dict[str, Any]:
    """Run the quick start in a folder and return its metrics."""
    quickstart = ROOT / "examples/quickstart.yaml"
    command = [sys.executable, "-m", "cai", "run", str(quickstart), "--run", str(folder)]
    for setting in (f"constitution={constitution}", f"seed={seed}", *settings):
        command += ["--set", setting]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        sys.exit(completed.stdout + completed.stderr)
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def policy_rates(policy: dict[str, Any]) -> dict[str, float]:
    """Return the rates of one policy that are compared."""
    slang = policy["attributes"]["slang"]
    return {
        "harmful": policy["harmful_rate"],
        "helpful": policy["helpful_rate"],
        "evasive": policy["evasive_rate"],
        **{f"harmful: {kind}": rate for kind, rate in policy["harmful_by_kind"].items()},
        "slang: red team": slang["eval_red_team"],
        "slang: benign": slang["eval_benign"],
    }


def print_row(seed: int, edit: str, metrics: dict[str, Any]) -> None:
    """Print the rates of all policies, and the requests of each stage, as a line of JSON."""
    row = {
        "seed": seed,
        "edit": edit,
        **{name: policy_rates(policy) for name, policy in metrics["policies"].items()},
        "requests": metrics["cache"]["by_stage"],
    }
    print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=list(EDITS), choices=EDITS)
    parser.add_argument("--set", action="append", default=[], help="setting for cai run")
    options = parser.parse_args()
    out = options.out.absolute()
    original = make_project(out / "project")
    constitutions = {edit: original.with_name(f"{edit}.yaml") for edit in EDITS}
    constitutions["reworded"] = make_reworded_project(out / "project_reworded")
    for seed in options.seeds:
        base = out / f"seed{seed}/base"
        print_row(seed, "none", run_quickstart(base, original, seed, options.set))
        for edit in options.only:
            folder = out / f"seed{seed}/{edit}"
            shutil.copytree(base, folder, dirs_exist_ok=True)
            metrics = run_quickstart(folder, constitutions[edit], seed, options.set)
            print_row(seed, edit, metrics)


if __name__ == "__main__":
    main()
