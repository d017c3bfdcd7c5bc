"""``cai audit``: the labels of a run, from its records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cai.cli.reporter import safe
from cai.errors import InputError, Problem
from cai.evaluate.audit import audit
from cai.files import read_json, read_records
from cai.pipeline.layout import iteration_folders
from cai.records import Preference


def show_audit(folder: Path) -> None:
    """Print the audit of a run's labels, those of each round by themselves."""
    judged = [
        stage for stage in iteration_folders(folder, "judge") if (stage / "records.jsonl").is_file()
    ]
    if not judged:
        raise InputError(
            [
                Problem(
                    str(folder),
                    "holds no labels; is it the folder of a run that has come to its judge?",
                )
            ]
        )
    for stage in judged:
        if len(judged) > 1:
            print(f"-- {stage.name}")
        _show(stage / "records.jsonl", folder / stage.name.replace("judge", "audit") / "audit.json")


def _show(records: Path, saved: Path) -> None:
    metrics = audit(read_records(records, Preference))
    print(f"labels                  {metrics['n']}")
    for title, rate in (
        ("without a label", metrics["unscored"]),
        ("near one half", metrics["near_ties"]),
        ("first answer wins", metrics["place"]["first_wins"]),
        ("longer answer wins", metrics["length"]["longer_wins"]),
    ):
        print(f"{title:<24}{_rate(rate)}")
    if metrics["place"]["order_consistency"] is not None:
        print(f"{'same verdict both ways':<24}{metrics['place']['order_consistency']:.1%}")
    if metrics["length"]["correlation"] is not None:
        print(f"{'label ~ length':<24}r = {metrics['length']['correlation']:+.2f}")
    for title, key in (
        ("different answers", "distinct_answers"),
        ("nearly alike in a pair", "near_alike"),
    ):
        if key in metrics:
            print(f"{title:<24}{metrics[key]:.1%}")
    for name, common in metrics["commonest"].items():
        print(f"{f'most_common {name}':<24}{common['share']:.1%}  {safe(common['text'])[:80]}")
    print(
        f"{'circles A > B > C > A':<24}{metrics['contradictions']['circles']} of {metrics['contradictions']['triples']} triples"
    )
    print(f"\n{'principle':<32}{'judgments':>9}{'decides':>9}{'agrees with the label':>23}")
    for name, row in metrics["principles"].items():
        agrees = f"{row['agrees']:.1%}" if "agrees" in row else ""
        print(f"{name:<32}{row['n']:>9}{row['decides']:>9.1%}{agrees:>23}")
    if saved.is_file():
        kept: dict[str, Any] = read_json(saved)
        print()
        for kind, rate in kept["examples"].items():
            if rate["n"]:
                print(f"{f'examples, {kind}'.replace('_', ' '):<24}{_rate(rate)}")
        if kept.get("human", {}).get("n"):
            people = kept["human"]
            kappa = f"; kappa {people['kappa']['value']:.2f}" if "kappa" in people else ""
            print(f"{'agrees with people':<24}{_rate(people['accuracy'])}{kappa}")
            print(
                f"{'without any judge':<24}{', '.join(f'{name} answer wins: {value:.1%}' for name, value in people['baselines'].items())}"
            )
        for reason in kept["failings"]:
            print(f"not fit to train on: {reason}")


def _rate(rate: dict[str, float]) -> str:
    if not rate["n"]:
        return "none to count"
    return (
        f"{rate['value']:.1%}  (95 %: {rate['low']:.1%} to {rate['high']:.1%}, n = {rate['n']:.0f})"
    )
