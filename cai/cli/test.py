"""``cai test``: the examples in a constitution's principles as tests of a judge."""

from __future__ import annotations

from pathlib import Path

from cai.backends import open_backend
from cai.backends.memo import Memo
from cai.cli.screen import safe
from cai.constitution import load_constitution
from cai.errors import InputError, Problem, did_you_mean
from cai.evaluate.examples import examine, hostile, marks, questions
from cai.feedback.readings import METHODS, method_named


def run_examples(constitution: str, judge: str, method: str) -> int:
    """Print each failed question and the marks; 1 if a plain example failed."""
    if method not in METHODS:
        raise InputError([Problem("--method", f"is one of {', '.join(METHODS)}{did_you_mean(method, METHODS)}")])
    law = load_constitution(constitution)
    asked = [*questions(law), *hostile(law)]
    if not asked:
        raise InputError([Problem(constitution, "none of its principles has examples; add some under examples:")])
    with Memo(Path(":memory:")) as memo:
        answered = examine(asked, method_named(method), memo.asker(open_backend(judge), "test"))
    for found in answered:
        mark = "pass" if found.passed else "FAIL"
        if found.question.kind == "plain" or not found.passed:
            told = "no verdict" if found.p_first is None else f"{found.margin:+.2f}"
            print(
                f"{mark}  {found.question.kind:<11}{found.question.principle.id:<32}{told:>10}  {safe(found.question.comparison.prompt.text)[:60]}"
            )
    print()
    for kind, rate in marks(answered).items():
        if rate["n"]:
            verb = "turned" if kind == "hostile_flips" else "passed"
            print(
                f"{kind.removesuffix('_flips'):<12}{rate['value']:.1%} {verb} (95 %: {rate['low']:.1%} to {rate['high']:.1%}, n = {rate['n']})"
            )
    return 0 if all(found.passed for found in answered if found.question.kind == "plain") else 1
