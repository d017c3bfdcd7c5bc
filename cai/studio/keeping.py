"""What a conversation leaves: prompts for a run, labels for a reward model, tests for a policy."""

from __future__ import annotations

import shlex
from pathlib import Path

import yaml

from cai import shipped
from cai.constitution.load import find_constitution
from cai.constitution.schema import Principle
from cai.errors import LimitReached
from cai.files import write_text
from cai.keys import digest
from cai.pipeline.run import Run, base_of
from cai.records import Comparison, Prompt
from cai.studio.json_lines import JsonLines, Row
from cai.studio.labels import row_of
from cai.studio.library import StudioRun

PROMPTS = "talk_prompts.jsonl"
"""The file of a run that holds the prompts that were kept; ``prompts:`` reads it as it is."""
TESTS = "tests"
"""The folder of a run that holds the suites of tests that were kept."""


def keep_prompt(run: StudioRun, prompt: Prompt) -> bool:
    """Keep a conversation as a prompt.

    Args:
        run: The run.
        prompt: The conversation up to the turn that is to be answered.

    Returns:
        Whether it is new.

    Raises:
        LimitReached: If the file cannot be written.
    """
    return JsonLines(run.folder / PROMPTS).append(_prompt_row(prompt), key=digest)


def keep_label(run: StudioRun, comparison: Comparison, p_first: float, rater: str) -> bool:
    """Keep which of two answers is better.

    Args:
        run: The run.
        comparison: The answers.
        p_first: 1 if the first one is better, 0 if the second one is, one half if neither is.
        rater: Name of the person.

    Returns:
        Whether it is new: nobody labels a pair twice.

    Raises:
        LimitReached: If the file cannot be written.
    """
    return run.labels.add(row_of(comparison, p_first, rater))


def keep_test(run: StudioRun, prompt: Prompt, principle: Principle) -> bool:
    """Keep a conversation as a test: in its answer a judge must find no problem by a principle.

    The tests by one principle are a suite for ``cai eval``.

    Args:
        run: The run.
        prompt: The conversation up to the turn that is to be answered.
        principle: The principle.

    Returns:
        Whether it is new.

    Raises:
        InputError: If the constitution of the run is not found any more.
        LimitReached: If the files cannot be written.
    """
    folder, file = run.folder / TESTS, suite_file(run, principle.id)
    if folder.is_symlink():
        raise LimitReached(f"{folder}: is a link, and is not written to")
    settings = {"principle": principle.id, "constitution": _constitution(run)}
    suite = {
        "name": f"talk-{file.stem}",
        "about": f"Answers have no problem by the principle: {principle.title}",
        "prompts": f"{file.stem}.jsonl",
        "grader": {"principle": settings},
        "metric": "problem_rate",
        "better": "lower",
    }
    write_text(file, yaml.safe_dump(suite, sort_keys=False, allow_unicode=True))
    return JsonLines(file.with_suffix(".jsonl")).append(_prompt_row(prompt), key=digest)


def suite_file(run: StudioRun, principle: str) -> Path:
    """The suite of the tests by a principle.

    Args:
        run: The run.
        principle: Id of the principle, which does not become a path.
    """
    return run.folder / TESTS / f"{digest(principle, 8)}.yaml"


def test_command(run: Run, suite: Path, policy: str) -> str:
    """The command that runs the tests of a suite.

    Args:
        run: The run.
        suite: The suite.
        policy: The policy to test.
    """
    judge = run.model(run.config.judge_models[0])
    words = ["cai", "eval", "--suite", str(suite), "--model", str(run.folder / policy)]
    return shlex.join([*words, "--judge", judge])


def _prompt_row(prompt: Prompt) -> Row:
    if len(prompt.messages) == 1:
        return {"prompt": prompt.text}
    return {"messages": [message.model_dump() for message in prompt.messages]}


def _constitution(run: StudioRun) -> str:
    """The constitution of a run as a suite names it from wherever it is read."""
    path = find_constitution(run.config.constitution, base_of(run.folder))
    is_shipped = path.resolve().is_relative_to(shipped.folder("constitution").resolve())
    return path.stem if is_shipped else str(path.resolve())
