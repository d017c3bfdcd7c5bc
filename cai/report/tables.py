"""The tables of the report: rows of text, without columns that nothing is known for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cai.evaluate.gold import columns, share_of
from cai.report.report_data import Effect, ReportData

LABEL_CHECKS = (
    ("without a label", ("unscored",)),
    ("near one half", ("near_ties",)),
    ("the first answer wins", ("position", "first_wins")),
    ("the longer answer wins", ("length", "longer_wins")),
    ("clear verdicts: the same in both orders", ("position", "same_in_both_orders")),
    ("clear verdicts: the same when asked again", ("asked_again",)),
    ("examples of the principles: the better answer wins", ("examples", "plain")),
    ("crossed examples: the verdict follows the principle", ("examples", "crossed")),
    ("irrelevant principle: the verdict is a tie", ("examples", "irrelevant")),
    ("verdicts that flip when an answer asks for it", ("examples", "adversarial_flips")),
    ("agreement with people", ("human", "accuracy")),
)
"""The proportions of an audit: what they measure, and where they are."""

REVISION_CHECKS = (
    ("cut off", ("cut",)),
    ("something else than a rewritten answer", ("invalid",)),
    ("failed for another reason", ("failed",)),
    ("words around the answer removed", ("cleaned",)),
    ("answers without any successful round", ("without_row",)),
    ("rows to train on: the same as the draft", ("unchanged",)),
    ("rows to train on: a fifth of the draft's words or fewer", ("far_shorter",)),
    ("rows to train on: five times the draft's words or more", ("far_longer",)),
)
"""The proportions of the audit of revisions: what they measure, and where they are."""


class Cell(NamedTuple):
    """One cell of a table.

    Attributes:
        text: The value; empty if there is none.
        detail: More about it, in small print: an interval or an id.
    """

    text: str = ""
    detail: str = ""


class Table(NamedTuple):
    """A table whose first column names its rows.

    Attributes:
        header: Titles of the columns.
        rows: The cells of each row.
    """

    header: list[str]
    rows: list[list[Cell]]

    def without_empty_columns(self) -> Table:
        """Return the table without the columns that no row has a value for."""
        used = [i for i in range(len(self.header)) if any(row[i].text for row in self.rows)]
        rows = [[row[i] for i in used] for row in self.rows]
        return Table([self.header[i] for i in used], rows)


def percent(value: float) -> str:
    """Format a proportion, with a decimal below 10%."""
    return f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}"


def number(value: float) -> str:
    """Format a number: integers in full, others to three digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def share_cell(share: Mapping[str, float] | None) -> Cell:
    """Return a proportion with its interval; an empty cell without data."""
    if not share or not share["n"]:
        return Cell()
    return Cell(percent(share["value"]), f"{percent(share['low'])}–{percent(share['high'])}")


def value_cell(metrics: Mapping[str, Any], key: str, template: str) -> Cell:
    """Return a metric in a format; an empty cell if it was not measured."""
    return Cell(format(metrics[key], template)) if key in metrics else Cell()


def policy_table(policies: Mapping[str, Any]) -> Table:
    """Compare the policies: gold rates, win rate, reward, KL and length."""
    flags = columns(policies)
    titles = ["judge prefers it to initial", "reward", "KL from initial", "tokens"]
    rows = []
    for name, metrics in policies.items():
        row = [Cell(name), *(share_cell(share_of(metrics, column)) for column in flags.values())]
        row.append(share_cell(metrics.get("win_rate")))
        row.append(value_cell(metrics, "reward", ".2f"))
        row.append(value_cell(metrics, "kl_from_initial", ".1f"))
        row.append(value_cell(metrics, "length", ".0f"))
        rows.append(row)
    return Table(["policy", *flags, *titles], rows).without_empty_columns()


def harm_table(policies: Mapping[str, Any]) -> Table:
    """Show how often each policy does the harm that a request asks for, by kind of request."""
    by_policy = {name: metrics.get("harmful_by_kind", {}) for name, metrics in policies.items()}
    kinds = sorted({kind for shares in by_policy.values() for kind in shares})
    rows = [
        [
            Cell(kind),
            *(
                Cell(percent(shares[kind])) if kind in shares else Cell()
                for shares in by_policy.values()
            ),
        ]
        for kind in kinds
    ]
    return Table(["kind of request", *by_policy], rows).without_empty_columns()


def movement_table(data: ReportData) -> Table:
    """Show the rates that changed since the previous constitution."""
    changes = data.movement.changes if data.movement else []
    rows = [
        [
            Cell(change.policy),
            Cell(change.rate),
            Cell(percent(change.before)),
            Cell(percent(change.after)),
        ]
        for change in changes
    ]
    return Table(["policy", "rate", "before", "now"], rows)


def effect_table(effects: Sequence[Effect]) -> Table:
    """Show what each principle did."""
    rows = []
    for effect in effects:
        row = [Cell(effect.title, effect.principle), Cell(), Cell(), Cell(), Cell()]
        if effect.steps:
            row[1], row[2] = Cell(f"{effect.steps:,}"), Cell(percent(effect.changed / effect.steps))
        if effect.labels:
            row[3] = Cell(f"{effect.labels:,}")
            row[4] = Cell(percent(effect.decisive / effect.labels))
        rows.append(row)
    header = ["principle", "revisions", "changed the reply", "judgments", "chose an answer"]
    return Table(header, rows).without_empty_columns()


def audit_table(audit: Mapping[str, Any]) -> Table:
    """Show the proportions that the audit measured."""
    return _checks("check of the labels", LABEL_CHECKS, audit)


def judges_table(audit: Mapping[str, Any]) -> Table:
    """Show what each of several judges contributes."""
    by_judge = audit.get("judges", {}).get("by_judge", {})
    rows = [
        [
            Cell(name),
            Cell(number(own["n"])),
            share_cell(own["unscored"]),
            share_cell(own["agrees"]),
            value_cell(own["option_mass"], "median", ".0%"),
            *(Cell(number(count)) for count in own["tokens"]),
        ]
        for name, own in by_judge.items()
    ]
    titles = ["without a verdict", "agrees with the label", "mass on the options"]
    header = ["judge", "judgments", *titles, "tokens read", "tokens written"]
    return Table(header, rows).without_empty_columns()


def judge_pairs_table(audit: Mapping[str, Any]) -> Table:
    """Show how well each two of several judges agree."""
    rows = [
        [
            Cell(" and ".join(pair["judges"])),
            share_cell(pair["agreement"]),
            value_cell(pair, "kappa", ".2f"),
            Cell(number(pair["agreement"]["n"])),
        ]
        for pair in audit.get("judges", {}).get("pairs", [])
    ]
    return Table(["judges", "same verdict", "kappa", "of"], rows).without_empty_columns()


def revision_audit_table(stages: Mapping[str, Any]) -> Table:
    """Show the proportions that the audit of the revisions measured."""
    audit = stages.get("revise", {}).get("audit", {})
    return _checks("check of the revisions", REVISION_CHECKS, audit)


def _checks(
    name: str, checks: Sequence[tuple[str, tuple[str, ...]]], audit: Mapping[str, Any]
) -> Table:
    """The proportions of an audit that were measured, one row each."""
    rows = []
    for title, path in checks:
        share: Any = audit
        for key in path:
            share = share.get(key) or {}
        if share.get("n"):
            value, interval = share_cell(share)
            rows.append([Cell(title), Cell(value), Cell(interval), Cell(number(share["n"]))])
    return Table([name, "share", "95% interval", "of"], rows)


def reward_by_principle(data: ReportData) -> Table:
    """Show the accuracy of the reward model by the strongest principle of each label."""
    rows = [
        [
            Cell(data.title_of(name), name),
            Cell(percent(row["accuracy"])) if "accuracy" in row else Cell(),
            Cell(number(row["n"])),
        ]
        for name, row in data.reward.get("by_principle", {}).items()
    ]
    return Table(["strongest principle of the label", "accuracy", "of"], rows)


def format_bias_table(reward: Mapping[str, Any]) -> Table:
    """Show how much the style of the worse answer moves the reward."""
    rows = [
        [
            Cell(style.replace("_", " ")),
            value_cell(metrics, "shift", "+.2f"),
            Cell(percent(metrics["flipped"])) if "flipped" in metrics else Cell(),
        ]
        for style, metrics in reward.get("format_bias", {}).items()
    ]
    header = ["style of the worse answer", "score change", "now ranked first"]
    return Table(header, rows).without_empty_columns()


def reward_test_sets(reward: Mapping[str, Any], on_gold: Mapping[str, float]) -> Table:
    """Show the test sets of the reward model.

    Args:
        reward: Metrics of the reward stage.
        on_gold: Share on the right side for the answers built by the gold metrics.
    """
    rows = [
        [
            Cell(name),
            Cell(percent(test_set["right"])),
            Cell(number(test_set["n"])),
            Cell(format(test_set["lead"], ".2f")),
        ]
        for name, test_set in reward.get("test_sets", {}).items()
    ]
    for name, right in on_gold.items():
        side, _, manner = name.partition("_")
        rows.append([Cell(f"{side} request, {manner}"), Cell(percent(right)), Cell(), Cell()])
    return Table(["test set", "right", "of", "mean lead"], rows).without_empty_columns()


def stage_table(metrics: Mapping[str, Any]) -> Table:
    """Show what each stage measured, how long it took and what it asked of models."""
    requests = metrics.get("cache", {}).get("total", {})
    rows = []
    for name, seconds in metrics["seconds"].items():
        measured = [
            f"{key.replace('_', ' ')} {number(value)}"
            for key, value in metrics["stages"].get(name, {}).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        count = requests.get(name, {}).get("requests", 0)
        rows.append(
            [
                Cell(name),
                Cell(", ".join(measured)),
                Cell(f"{seconds:.1f}"),
                Cell(f"{count:,}" if count else ""),
            ]
        )
    header = ["stage", "measured", "seconds", "requests"]
    return Table(header, rows).without_empty_columns()
