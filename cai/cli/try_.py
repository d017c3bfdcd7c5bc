"""``cai try``: one prompt, live: answer, critique, revision and verdict."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from cai.backends import open_backend
from cai.backends.protocol import Model
from cai.backends.response_cache import ResponseCache
from cai.cli.reporter import safe
from cai.constitution import Constitution, load_constitution
from cai.errors import InputError, Problem, RunFailed, did_you_mean
from cai.feedback.judge import judge
from cai.feedback.judge_methods import CritiqueOdds
from cai.feedback.revise import revise
from cai.feedback.sample import sample
from cai.models.names import REFERENCE
from cai.records import Comparison, Preference, Prompt, Sample, Step

MAX_DRAWS = 8
"""Seeds that are tried until an answer violates a principle."""
CACHE_FILE = Path("runs/try/responses.sqlite")
"""Where responses are remembered."""
MAX_UNKNOWN_WORDS = 5
"""Unknown words that are printed."""


class Draw(NamedTuple):
    """An answer and the seed that it was drawn with."""

    seed: int
    answer: Sample


class Attempt(NamedTuple):
    """One answer and what became of it.

    Attributes:
        seed: Seed of all draws.
        answer: The model's answer.
        step: Its critique and revision.
        verdict: The judge's label of (revised, first) answer, by all principles.
    """

    seed: int
    answer: Sample
    step: Step
    verdict: Preference

    @property
    def violated(self) -> list[str]:
        """The principles that the revised answer violates."""
        return violated(self.verdict)

    @property
    def unscored(self) -> list[str]:
        """The principles by which the judge gave no verdict."""
        return unscored(self.verdict)


def try_(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to ask the model.")],
    constitution: Annotated[str, typer.Option(help="A constitution (name or file).")] = REFERENCE,
    model: Annotated[
        str, typer.Option(help="reference, a folder, a hub id, a server or a function.")
    ] = REFERENCE,
    principle: Annotated[str, typer.Option(help="Glob over principle ids; by default all.")] = "*",
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of all draws; by default the first that shows a problem."),
    ] = None,
    cache: Annotated[Path, typer.Option(help="File that remembers responses.")] = CACHE_FILE,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 unless all principles are kept.")
    ] = False,
) -> None:
    """Answer, critique, revise and judge one prompt.

    The critique is by a principle that the answer violates. If it violates none, the model is asked
    again with the next seed, unless --seed is given. Responses are remembered, so that the same
    command asks nothing twice.

    Example: cai try "Write something rude about Amy."
    """
    selected = select_principles(load_constitution(constitution), principle)
    asked = Prompt.of(prompt)
    seeds = range(MAX_DRAWS) if seed is None else [seed]
    with ResponseCache(cache) as responses:
        cached_model = responses.cached_model(open_backend(model), "try")
        if model == REFERENCE:
            _warn_of_unknown_words(prompt)
        answer, broken = _first_violation(asked, selected, cached_model, seeds)
        attempt = improve(answer, selected, broken, cached_model)
    if as_json:
        print(json.dumps(_as_json(attempt, selected), ensure_ascii=False, indent=2))
    else:
        _print(attempt, selected)
    if strict and (attempt.violated or attempt.unscored):
        raise typer.Exit(1)


def select_principles(constitution: Constitution, pattern: str) -> Constitution:
    """Keep the principles that match a pattern.

    Raises:
        InputError: if none matches, or none of them has texts for revising.
    """
    names = fnmatch.filter(sorted(constitution.principles), pattern)
    if not names:
        hint = did_you_mean(pattern, constitution.principles)
        text = f"matches no principle of {constitution.name}{hint}"
        raise InputError([Problem(pattern, text)])
    selected = _only(constitution, names)
    if not selected.used_for("revise"):
        raise InputError([Problem(pattern, "none of these principles has texts for revising")])
    return selected


def _only(constitution: Constitution, names: Collection[str]) -> Constitution:
    # the examples of critique and revision stay, as a run shows them with every principle
    weights = {
        use: {name: weight for name, weight in by_name.items() if name in names}
        for use, by_name in constitution.weights.items()
    }
    return constitution.model_copy(update={"weights": weights})


def _first_violation(
    prompt: Prompt, constitution: Constitution, model: Model, seeds: Sequence[int]
) -> tuple[Draw, list[str]]:
    """Answer with one seed after the other until an answer violates a principle.

    Returns:
        The last answer, and the principles that it violates.

    Raises:
        RunFailed: if the model gave no usable answer.
    """
    for seed in seeds:
        answer = sample([prompt], model, seed=seed)[0]
        if answer.status not in ("ok", "truncated"):
            reason = answer.reason or answer.status.replace("_", " ")
            raise RunFailed(f"the model gave no usable answer ({reason})")
        itself = Comparison.of(prompt, answer.response, answer.response)
        verdict = _judge(itself, constitution, model, seed)
        broken, unread = violated(verdict), unscored(verdict)
        if broken or seed == seeds[-1]:
            break
        if len(unread) == len(verdict.judgments):
            _note(f"seed {seed}: the model gave no readable verdict by any principle")
            break
        unknown = (
            f" ({len(unread)} of {len(verdict.judgments)} without a verdict)" if unread else ""
        )
        _note(f"seed {seed}: the answer violates no principle{unknown}; trying seed {seed + 1}")
    return Draw(seed, answer), broken


def improve(
    draw: Draw, constitution: Constitution, broken: Collection[str], model: Model
) -> Attempt:
    """Revise an answer by one of the principles that it violates, and judge the two by all.

    Args:
        draw: The answer.
        constitution: The principles to judge by.
        broken: The principles to draw one from; if empty, any.
        model: The critic and judge.
    """
    critics = constitution
    if set(broken) & set(constitution.used_for("revise")):
        critics = _only(constitution, broken)
    revision = revise([draw.answer], critics, model, rounds=1, seed=draw.seed)[0]
    step = revision.steps[0]
    comparison = Comparison.of(draw.answer.prompt, step.revision, draw.answer.response)
    verdict = _judge(comparison, constitution, model, draw.seed)
    return Attempt(draw.seed, draw.answer, step, verdict)


def _judge(
    comparison: Comparison, constitution: Constitution, model: Model, seed: int
) -> Preference:
    """The label of a comparison by all principles, from a critique of each answer."""
    method = CritiqueOdds()
    return judge([comparison], constitution, model, method, principles=0, combine="sum", seed=seed)[
        0
    ]


def violated(verdict: Preference) -> list[str]:
    """The principles by which a critique of the first answer would more likely find a problem."""
    return [
        judgment.principle
        for judgment in verdict.judgments
        if judgment.evidence.get("problem_in_first", 0.0) > 0.5
    ]


def unscored(verdict: Preference) -> list[str]:
    """The principles by which the judge gave no readable verdict."""
    return [judgment.principle for judgment in verdict.judgments if judgment.p_first is None]


def _print(attempt: Attempt, constitution: Constitution) -> None:
    step, p_revision = attempt.step, attempt.verdict.p_first
    title = constitution.principles[step.principle].title
    if step.status != "ok":
        revision = f"(none: {step.reason or step.status.replace('_', ' ')})"
    else:
        revision = "(unchanged)" if step.unchanged else safe(step.revision)
    print(f"answer      {safe(attempt.answer.response)}")
    print(f"principle   {step.principle}: {title}")
    print(f"critique    {safe(step.critique)}")
    print(f"revision    {revision}")
    if p_revision is None:
        print("judge       no verdict")
    else:
        print(f"judge       the revision is the better answer with probability {p_revision:.2f}")
    for title, principles in (("violated", attempt.violated), ("no verdict", attempt.unscored)):
        if principles:
            print(f"{title:<12}{', '.join(principles)}")


def _as_json(attempt: Attempt, constitution: Constitution) -> dict[str, Any]:
    step = attempt.step
    return {
        "prompt": attempt.answer.prompt.text,
        "seed": attempt.seed,
        "model": attempt.answer.provenance.model,
        "constitution": {"name": constitution.name, "hash": constitution.hash},
        "answer": attempt.answer.response,
        "principle": step.principle,
        "critique": step.critique,
        "revision": step.revision,
        "unchanged": step.unchanged,
        "status": step.status,
        "p_revision_better": attempt.verdict.p_first,
        "violated": attempt.violated,
        "unscored": attempt.unscored,
    }


def _warn_of_unknown_words(prompt: str) -> None:
    unknown = unknown_words(prompt)
    if unknown:
        listed = ", ".join(unknown[:MAX_UNKNOWN_WORDS])
        _note(
            f"the reference model only knows its own small world, not: {listed}; "
            "for other prompts, use --model"
        )


def unknown_words(prompt: str) -> list[str]:
    """Find the words of a prompt that the reference model never saw."""
    from cai.reference.tokenizer import words

    known = {word.lower() for word in words()}
    asked = re.findall(r"[a-z]+(?:'[a-z]+)?", prompt.lower())
    return [word for word in dict.fromkeys(asked) if word not in known]


def _note(text: str) -> None:
    """Print a remark on standard error, so that standard output is the result alone."""
    typer.echo(text, err=True)
