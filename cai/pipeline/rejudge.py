"""What another constitution would do to a run's revisions and labels, everything else unchanged.

The same answers are revised and the same comparisons judged by way of the run's cache: a model is
asked only for what the change affects, and its responses are there for the next ``cai run``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from cai.backends.response_cache import ResponseCache
from cai.config import load_config
from cai.config.servers import without_batches
from cai.constitution.lock import read_lock
from cai.constitution.schema import Constitution
from cai.errors import InputError, Problem
from cai.files import read_records
from cai.functions import look_in
from cai.pipeline.feedback import labeler, reviser
from cai.pipeline.prompt_sets import with_prompt_sets
from cai.pipeline.run import CACHE, CONFIG, CONSTITUTION_LOCK, Run, base_of
from cai.records import Preference, Record, Revision

STAGE = "diff"
"""The stage that the requests are counted for."""
ROUNDING = 1e-6
"""Differences of probabilities that the order of the work makes."""
RecordT = TypeVar("RecordT", bound=Record)


@dataclass(frozen=True)
class RevisionEffect:
    """A revision chain under both constitutions.

    Attributes:
        before: The chain of the run.
        after: The chain under the other constitution.
        first: The first round that comes out differently; the number of rounds if none does.
    """

    before: Revision
    after: Revision
    first: int

    @property
    def is_affected(self) -> bool:
        """Whether any round comes out differently."""
        return self.first < len(self.before.steps)

    @property
    def moved(self) -> bool:
        """Whether the final answer is different."""
        return self.before.final != self.after.final


@dataclass(frozen=True)
class LabelEffect:
    """A label under both constitutions.

    Attributes:
        before: The label of the run.
        after: The label under the other constitution.
    """

    before: Preference
    after: Preference

    @property
    def is_affected(self) -> bool:
        """Whether other principles, texts, templates or examples were read."""
        before, after = self.before.judgments, self.after.judgments
        asked = [(j.principle, j.principle_hash, j.template) for j in before]
        is_asked_otherwise = asked != [(j.principle, j.principle_hash, j.template) for j in after]
        return is_asked_otherwise or self.moved > ROUNDING

    @property
    def moved(self) -> float:
        """How far the probability moved; 1 if there is a label in only one of the two."""
        before, after = self.before.p_first, self.after.p_first
        if before is None or after is None:
            return float(before is not after)
        return abs(after - before)

    @property
    def flipped(self) -> bool:
        """Whether the other answer is preferred."""
        before, after = self.before.p_first, self.after.p_first
        return before is not None and after is not None and (before - 0.5) * (after - 0.5) < 0


@dataclass(frozen=True)
class Effects:
    """What another constitution changes, and what it took to find out.

    Attributes:
        chains: Number of revision chains.
        touched_chains: Those that are affected.
        labels: Number of labels.
        touched_labels: Those that are affected.
        requests: Requests that were made.
        cached: Requests that were answered from the cache.
    """

    chains: int
    touched_chains: list[RevisionEffect]
    labels: int
    touched_labels: list[LabelEffect]
    requests: int
    cached: int


def effects(folder: Path, constitution: Constitution) -> Effects:
    """Revise and judge what a run revised and judged, by another constitution.

    Args:
        folder: The folder of the run.
        constitution: The other constitution.

    Raises:
        InputError: If the folder is not that of a run, or another process works in it.
    """
    if not (folder / CONFIG).is_file() or not (folder / CACHE).is_file():
        raise InputError([Problem(str(folder), "is not the folder of a run")])
    try:
        with FileLock(folder / ".lock").acquire(timeout=0), ResponseCache(folder / CACHE) as cache:
            config = load_config(folder / CONFIG)
            # someone waits for the result
            config = config.model_copy(update={"servers": without_batches(config.servers)})
            run = Run(
                folder, config, with_prompt_sets(constitution, config), cache, base_of(folder)
            )
            look_in(run.base)
            chains, labels = _revise_again(run), _judge_again(run)
            return Effects(
                chains=len(chains),
                touched_chains=[chain for chain in chains if chain.is_affected],
                labels=len(labels),
                touched_labels=[label for label in labels if label.is_affected],
                requests=sum(usage.requests for usage in cache.usage.values()),
                cached=sum(usage.cached for usage in cache.usage.values()),
            )
    except Timeout:
        raise InputError([Problem(str(folder), "is in use by another process")]) from None


def resolve_constitution(name: str) -> Constitution:
    """A constitution by its name or file, or that of a run by its folder.

    Args:
        name: The name, file or folder.
    """
    from cai.constitution import load_constitution

    lock = Path(name) / CONSTITUTION_LOCK
    return read_lock(lock) if lock.is_file() else load_constitution(name)


def _revise_again(run: Run) -> list[RevisionEffect]:
    before = _records(run, "revise", Revision)
    work = reviser(run.config, run.constitution, run.critic(STAGE))
    after = work([revision.sample for revision in before])
    by_sample = {revision.sample.id: revision for revision in after}
    changes = [(revision, by_sample[revision.sample.id]) for revision in before]
    return [RevisionEffect(old, new, _first_difference(old, new)) for old, new in changes]


def _first_difference(before: Revision, after: Revision) -> int:
    for number, (old, new) in enumerate(zip(before.steps, after.steps, strict=True)):
        # an edited prompt template changes the texts but not the principle
        if old.model_copy(update={"reason": ""}) != new.model_copy(update={"reason": ""}):
            return number
    return len(before.steps)


def _judge_again(run: Run) -> list[LabelEffect]:
    before = _records(run, "judge", Preference)
    work = labeler(run.config, run.constitution, run.judges(STAGE))
    after = work([preference.comparison for preference in before])
    return [LabelEffect(old, new) for old, new in zip(before, after, strict=True)]


def _records(run: Run, stage: str, kind: type[RecordT]) -> Sequence[RecordT]:
    path = run.folder / stage / "records.jsonl"
    return read_records(path, kind) if path.is_file() else []
