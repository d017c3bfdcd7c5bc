"""``cai test``: the examples in a constitution's principles as tests of a judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cai.cli.reporter import safe
from cai.constitution import load_constitution
from cai.errors import InputError, Problem, did_you_mean
from cai.feedback.judge_methods import JUDGE_METHODS, judge_method

if TYPE_CHECKING:
    from cai.evaluate.judge_tests import JudgeTestResult

PROMPT_WIDTH = 26


def run_tests(
    constitution: Annotated[
        str, typer.Argument(metavar="CONSTITUTION", help="A constitution (name or file).")
    ],
    judge: Annotated[
        str,
        typer.Option(help="reference, a folder, a hub id, or http://host:8000/v1#model."),
    ] = "reference",
    method: Annotated[
        str, typer.Option(help="How verdicts are read: " + ", ".join(JUDGE_METHODS) + ".")
    ] = "critique",
) -> None:
    """Test a judge on a constitution's own examples.

    Also on pairs of examples in which the principle asked about decides, and on examples whose
    worse answer is decorated to win. Exits with 1 if a plain example fails.

    Example: cai test harmless --judge http://127.0.0.1:8000/v1#model
    """
    from cai.backends import open_backend
    from cai.backends.response_cache import ResponseCache
    from cai.evaluate import judge_tests

    if method not in JUDGE_METHODS:
        hint = did_you_mean(method, JUDGE_METHODS)
        raise InputError([Problem("--method", f"must be {', '.join(JUDGE_METHODS)}{hint}")])
    loaded = load_constitution(constitution)
    tests = [*judge_tests.judge_tests(loaded), *judge_tests.adversarial_tests(loaded)]
    if not tests:
        text = "its principles have no examples; add some under examples:"
        raise InputError([Problem(constitution, text)])
    with ResponseCache(":memory:") as cache:
        model = cache.cached_model(open_backend(judge), "test")
        templates = loaded.templates_for(model)
        results = judge_tests.run_judge_tests(tests, judge_method(method), model, templates)
    plain = [result for result in results if result.test.kind == "plain"]
    for result in results:
        if result.test.kind == "plain" or not result.passed:
            _print_result(result)
    print()
    for kind, rate in judge_tests.judge_test_metrics(results).items():
        if rate["n"]:
            verb = "flipped" if kind == "adversarial_flips" else "passed"
            print(
                f"{kind.removesuffix('_flips'):<12}{rate['value']:.1%} {verb} "
                f"(95% CI {rate['low']:.1%} to {rate['high']:.1%}, n = {rate['n']})"
            )
    raise typer.Exit(0 if all(result.passed for result in plain) else 1)


def _print_result(result: JudgeTestResult) -> None:
    mark = "pass" if result.passed else "FAIL"
    margin = "no verdict" if result.p_first is None else f"{result.margin:+.2f}"
    question = result.test
    prompt = safe(question.comparison.prompt.text)[:PROMPT_WIDTH]
    print(f"{mark}  {question.kind:<12}{question.principle.id:<24}{margin:>10}  {prompt}")
