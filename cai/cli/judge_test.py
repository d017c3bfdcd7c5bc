"""``cai test``: the examples in a constitution's principles as tests of a judge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from cai.cli.reporter import safe
from cai.config import Judge, load_config
from cai.constitution import Constitution, load_constitution
from cai.constitution.kinds import RUN, kind_of_value
from cai.constitution.load import find_constitution
from cai.documents import load
from cai.errors import InputError, Problem, did_you_mean
from cai.feedback.judge_methods import JUDGE_METHODS, JudgeMethod
from cai.functions import look_in
from cai.models.names import find_model

if TYPE_CHECKING:
    from cai.evaluate.judge_tests import JudgeTestResult

PROMPT_WIDTH = 26


class _Subject(NamedTuple):
    """What is tested.

    Attributes:
        constitution: The constitution whose examples are used.
        judge: The judge by name.
        method: How it is asked.
        enable_thinking: Whether it may reason first.
    """

    constitution: Constitution
    judge: str
    method: JudgeMethod
    enable_thinking: bool


def run_tests(
    constitution: Annotated[
        str,
        typer.Argument(
            metavar="CONSTITUTION", help="A constitution (name or file), or a run file."
        ),
    ],
    judge: Annotated[
        str | None,
        typer.Option(
            help="reference, a folder, a hub id, or http://host:8000/v1#model; "
            "by default the judge of the run file, else reference."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help=f"How verdicts are read: {', '.join(JUDGE_METHODS)}; "
            f"by default as in the run file, else {Judge().method}."
        ),
    ] = None,
) -> None:
    """Test a judge on a constitution's own examples.

    Also on pairs of examples in which the principle asked about decides, and on examples whose
    worse answer is decorated to win. With a run file, the judge is asked as the run asks it. Exits
    with 1 if a plain example fails.

    Example: cai test harmless --judge http://127.0.0.1:8000/v1#model
    """
    from cai.backends import open_backend
    from cai.backends.response_cache import ResponseCache
    from cai.evaluate import judge_tests

    if method is not None and method not in JUDGE_METHODS:
        hint = did_you_mean(method, JUDGE_METHODS)
        raise InputError([Problem("--method", f"must be {', '.join(JUDGE_METHODS)}{hint}")])
    subject = _subject(constitution, judge, method)
    loaded = subject.constitution
    tests = [*judge_tests.judge_tests(loaded), *judge_tests.adversarial_tests(loaded)]
    if not tests:
        text = "its principles have no examples; add some under examples:"
        raise InputError([Problem(constitution, text)])
    with ResponseCache(":memory:") as cache:
        backend = open_backend(subject.judge, enable_thinking=subject.enable_thinking)
        model = cache.cached_model(backend, "test")
        templates = loaded.templates_for(model)
        results = judge_tests.run_judge_tests(tests, subject.method, model, templates)
    plain = [result for result in results if result.test.kind == "plain"]
    for result in results:
        if result.test.kind == "plain" or not result.passed:
            _print_result(result)
    _print_summary(judge_tests.judge_test_metrics(results))
    raise typer.Exit(0 if all(result.passed for result in plain) else 1)


def _print_summary(metrics: Mapping[str, Mapping[str, float]]) -> None:
    print()
    for kind, rate in metrics.items():
        if rate["n"]:
            verb = "flipped" if kind == "adversarial_flips" else "passed"
            print(
                f"{kind.removesuffix('_flips'):<12}{rate['value']:.1%} {verb} "
                f"(95% CI {rate['low']:.1%} to {rate['high']:.1%}, n = {rate['n']})"
            )


def _subject(spec: str, judge: str | None, method: str | None) -> _Subject:
    """Read a constitution or a run file; what the options name wins over the run file."""
    from cai.pipeline.feedback import method_of

    path = Path(spec)
    is_yaml = path.suffix in (".yaml", ".yml") and path.is_file()
    settings, seed, enable_thinking = Judge(), 0, False
    if is_yaml and kind_of_value(load(path).value) == RUN:
        config = load_config(path)
        look_in(path.parent)
        constitution = load_constitution(find_constitution(config.constitution, path.parent))
        judge = judge or find_model(config.judge_model, path.parent)
        settings, seed = config.judge, config.seed
        enable_thinking = config.models.enable_thinking
    else:
        constitution = load_constitution(spec)
    if method is not None:
        settings = settings.model_copy(update={"method": method})
    asked = method_of(settings, constitution, seed)
    return _Subject(constitution, judge or "reference", asked, enable_thinking)


def _print_result(result: JudgeTestResult) -> None:
    mark = "pass" if result.passed else "FAIL"
    margin = "no verdict" if result.p_first is None else f"{result.margin:+.2f}"
    question = result.test
    prompt = safe(question.comparison.prompt.text)[:PROMPT_WIDTH]
    print(f"{mark}  {question.kind:<12}{question.principle.id:<24}{margin:>10}  {prompt}")
