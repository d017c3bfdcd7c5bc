"""``cai test``: the examples in a constitution's principles as tests of a judge."""

from __future__ import annotations

from pathlib import Path

from cai.backends import open_backend
from cai.backends.response_cache import ResponseCache
from cai.cli.reporter import safe
from cai.constitution import load_constitution
from cai.errors import InputError, Problem, did_you_mean
from cai.evaluate.judge_tests import (
    adversarial_tests,
    judge_test_metrics,
    judge_tests,
    run_judge_tests,
)
from cai.feedback.judge_methods import JUDGE_METHODS, judge_method


def run_examples(constitution: str, judge: str, method: str) -> int:
    """Print each failed question and the marks; 1 if a plain example failed."""
    if method not in JUDGE_METHODS:
        raise InputError(
            [
                Problem(
                    "--method",
                    f"is one of {', '.join(JUDGE_METHODS)}{did_you_mean(method, JUDGE_METHODS)}",
                )
            ]
        )
    loaded = load_constitution(constitution)
    asked = [*judge_tests(loaded), *adversarial_tests(loaded)]
    if not asked:
        raise InputError(
            [Problem(constitution, "none of its principles has examples; add some under examples:")]
        )
    with ResponseCache(Path(":memory:")) as cache:
        answered = run_judge_tests(
            asked, judge_method(method), cache.cached_model(open_backend(judge), "test")
        )
    for found in answered:
        mark = "pass" if found.passed else "FAIL"
        if found.question.kind == "plain" or not found.passed:
            told = "no verdict" if found.p_first is None else f"{found.margin:+.2f}"
            print(
                f"{mark}  {found.question.kind:<11}{found.question.principle.id:<32}{told:>10}  {safe(found.question.comparison.prompt.text)[:60]}"
            )
    print()
    for kind, rate in judge_test_metrics(answered).items():
        if rate["n"]:
            verb = "turned" if kind == "adversarial_flips" else "passed"
            print(
                f"{kind.removesuffix('_flips'):<12}{rate['value']:.1%} {verb} (95 %: {rate['low']:.1%} to {rate['high']:.1%}, n = {rate['n']})"
            )
    return 0 if all(found.passed for found in answered if found.question.kind == "plain") else 1
