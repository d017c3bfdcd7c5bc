"""``cai audit --reward``: what a policy could exploit of a reward model, on held-out answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cai.config import load_config
from cai.data.preferences import read_preferences
from cai.errors import InputError, Problem
from cai.evaluate.exploits import Exploit, Judgment, exploits
from cai.evaluate.gold import gold_for, goodness
from cai.files import read_records
from cai.keys import shuffled
from cai.models.names import find_model
from cai.models.scalar import load_scalar_model
from cai.pipeline.layout import iteration_folders
from cai.pipeline.run import CONFIG, base_of
from cai.records import Preference, Sample
from cai.train.ppo.rewards import ensemble_paths
from cai.train.reward.perturbations import Answer, TextScore
from cai.train.reward.scoring import score_texts

MAX_ANSWERS = 64
"""Answers that are perturbed, at most."""


def audit_reward(
    reward: str, *, run: Path | None = None, data: Path | None = None, second: str | None = None
) -> tuple[list[Exploit], str]:
    """Rank the perturbations of held-out answers by what they add to a reward model's score.

    Args:
        reward: The reward model: a folder or hub id.
        run: Folder of the run that the answers are from: those to held-out prompts, or else those
            that were labeled. Its gold function says which perturbations make an answer better.
        data: A file of pairs that the answers are from instead.
        second: A second reward model that says so, in place of the gold function.

    Returns:
        The perturbations, the largest raise first, and what they were held constant by.

    Raises:
        InputError: If there are no answers, or all of them have the same score.
    """
    answers = _answers_of_file(data) if data is not None else _answers_of_run(run)
    base = base_of(run) if run is not None else Path()
    chosen = shuffled(answers, "reward audit")[:MAX_ANSWERS]
    judge, held = _judgment(run, base, second)
    if judge is not None and all(value is None for value in judge(chosen)):
        judge, held = None, ""  # the gold function says nothing about such prompts
    score = _text_score(find_model(reward, base))
    found = exploits(score, chosen, judge)
    if not found:
        by = f"every perturbation makes every answer better by {held}"
        text = by if exploits(score, chosen) else f"has no answers that {reward} tells apart"
        raise InputError([Problem(str(data or run), text)])
    return found, held


def _text_score(model: str) -> TextScore:
    """The mean score of a reward model and the other members of its ensemble."""
    members = [load_scalar_model(path) for path in ensemble_paths(model)]

    def score(answers: Sequence[Answer]) -> list[float]:
        scores = [score_texts(member, answers) for member in members]
        mean: list[float] = (sum(scores[1:], scores[0]) / len(scores)).tolist()
        return mean

    return score


def _judgment(run: Path | None, base: Path, second: str | None) -> tuple[Judgment | None, str]:
    """What says whether a perturbation makes an answer better, and its name."""
    if second is not None:
        return _text_score(find_model(second, base)), second
    gold = None
    if run is not None:
        config = load_config(run / CONFIG)
        gold = gold_for(config.evaluate.gold, [config.models.initial])
    if gold is None:
        return None, ""
    known = gold
    return lambda answers: [goodness(known, *answer) for answer in answers], "the gold function"


def _answers_of_file(path: Path) -> list[Answer]:
    pairs = [preference.comparison for preference in read_preferences(path).preferences]
    return _unique([(pair.prompt, text) for pair in pairs for text in (pair.first, pair.second)])


def _answers_of_run(folder: Path | None) -> list[Answer]:
    """The answers of all policies to held-out prompts; before those, the ones that were labeled."""
    if folder is None:
        return []
    held_out = folder / "evaluate" / "records.jsonl"
    if held_out.is_file():
        samples = [sample for sample in read_records(held_out, Sample) if sample.status == "ok"]
        return _unique([(sample.prompt, sample.response) for sample in samples])
    answers: list[Answer] = []
    for stage in iteration_folders(folder, "judge"):
        if (stage / "records.jsonl").is_file():
            for preference in read_records(stage / "records.jsonl", Preference):
                pair = preference.comparison
                answers += [(pair.prompt, pair.first), (pair.prompt, pair.second)]
    return _unique(answers)


def _unique(answers: Sequence[Answer]) -> list[Answer]:
    return list({(prompt.id, text): (prompt, text) for prompt, text in answers}.values())
