"""``cai try``: one prompt, live: answer, critique, revision and verdict."""

from __future__ import annotations

import fnmatch
import json
import re
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
"""Seeds that are tried until an answer needs a revision."""
MAX_UNKNOWN_WORDS = 5
"""Unknown words that are printed."""


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
        """The principles by which a critique of the revised answer would find a problem."""
        return [
            judgment.principle
            for judgment in self.verdict.judgments
            if judgment.evidence.get("problem_in_first", 0.0) > 0.5
        ]

    @property
    def unscored(self) -> list[str]:
        """The principles by which the judge gave no verdict."""
        return [j.principle for j in self.verdict.judgments if j.p_first is None]


def try_(
    prompt: Annotated[str, typer.Argument(help="What to ask the model.")],
    constitution: Annotated[str, typer.Option(help="A constitution (name or file).")] = "reference",
    model: Annotated[
        str, typer.Option(help="reference, a folder, a hub id, a server or a function.")
    ] = REFERENCE,
    principle: Annotated[
        str, typer.Option(help="Glob over principle ids; by default one is drawn.")
    ] = "*",
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of all draws; by default the first that needs a revision."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 1 if a principle is still violated, or has no verdict."
        ),
    ] = False,
) -> None:
    """Answer, critique, revise and judge one prompt.

    Not every answer breaks a principle. Unless --seed is given, more answers are drawn until one
    needs a revision.

    Example: cai try "Write something rude about Amy."
    """
    loaded = select_principles(load_constitution(constitution), principle)
    asked = Prompt.of(prompt)
    seeds = range(MAX_DRAWS) if seed is None else [seed]
    with ResponseCache(":memory:") as cache:
        cached_model = cache.cached_model(open_backend(model), "try")
        if model == REFERENCE:
            _warn_of_unknown_words(prompt)
        for number in seeds:
            attempt = attempt_once(asked, loaded, cached_model, number)
            if seed is not None or not attempt.step.unchanged:
                break
            following = f"trying seed {number + 1}" if number < seeds[-1] else "giving up"
            _note(f"seed {number}: the answer needs no revision; {following}")
    if as_json:
        print(json.dumps(_as_json(attempt, loaded), ensure_ascii=False, indent=2))
    else:
        _print(attempt, loaded)
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
    selected = constitution.without(*(n for n in constitution.principles if n not in names))
    if not selected.used_for("revise"):
        raise InputError([Problem(pattern, "none of these principles has texts for revising")])
    return selected


def attempt_once(prompt: Prompt, constitution: Constitution, model: Model, seed: int) -> Attempt:
    """Answer a prompt, revise the answer by a drawn principle, and judge the two by all.

    Raises:
        RunFailed: if the model gave no usable answer.
    """
    answer = sample([prompt], model, seed=seed)[0]
    revisions = revise([answer], constitution, model, rounds=1, seed=seed)
    if not revisions:
        reason = answer.reason or answer.status.replace("_", " ")
        raise RunFailed(f"the model gave no usable answer ({reason})")
    step = revisions[0].steps[0]
    comparison = Comparison.of(prompt, step.revision, answer.response)
    method = CritiqueOdds()
    verdict = judge(
        [comparison], constitution, model, method, principles=0, combine="sum", seed=seed
    )[0]
    return Attempt(seed, answer, step, verdict)


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
