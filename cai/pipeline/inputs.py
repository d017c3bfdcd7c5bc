"""What stages read: a run's records, and the files that its config names."""

from __future__ import annotations

from cai.data.preferences import read_preferences
from cai.feedback.revise import training_rows
from cai.files import read_records
from cai.pipeline.run import Run
from cai.records import Preference, Prompt, Revision, Sample

RED_TEAM, BENIGN, EVAL_RED_TEAM, EVAL_BENIGN = "red_team", "benign", "eval_red_team", "eval_benign"


def prompts_of(run: Run, *kinds: str) -> list[Prompt]:
    return [p for p in read_records(run.records("prompts"), Prompt) if p.kind in kinds]


def preferences_of(run: Run) -> tuple[list[Preference], dict[str, int]]:
    """AI labels of all rounds and human ones together, and how many human rows were left out for which reason."""
    human, skipped = human_preferences(run)
    judged = [
        p
        for round in range(1, run.round + 1)
        for p in read_records(run.at(round).records("judge"), Preference)
    ]
    return judged + human, skipped


def human_preferences(run: Run) -> tuple[list[Preference], dict[str, int]]:
    preferences, skipped = list[Preference](), dict[str, int]()
    for name in run.config.reward.human:
        read = read_preferences(run.path(name))
        preferences += read.preferences
        skipped |= {f"{name}: {reason}": count for reason, count in read.counts.items()}
    return preferences, skipped


def samples_of(run: Run, stage: str) -> list[Sample]:
    return read_records(run.records(stage), Sample)


def helpful_rows(run: Run) -> list[tuple[Prompt, str]]:
    return [
        (s.prompt, s.response)
        for s in samples_of(run, "sample")
        if s.prompt.kind == BENIGN and s.status == "ok"
    ]


def sft_rows(run: Run) -> list[tuple[Prompt, str]]:
    rows = training_rows(read_records(run.records("revise"), Revision), run.config.revise.rows)
    return rows + helpful_rows(run) if run.config.sft.helpful else rows
