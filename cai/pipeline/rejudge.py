"""What another constitution would do to a run's revisions and labels, with everything else as it was.

The same drafts are revised and the same comparisons judged under the new constitution, by way of the run's memo: a model is
asked only for what the change touches, and what it answers is there for the next ``cai run``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from cai.backends.response_cache import ResponseCache
from cai.config import RunConfig
from cai.constitution.lock import read_lock
from cai.constitution.schema import Constitution
from cai.documents import load
from cai.errors import InputError, Problem
from cai.feedback.judge import judge
from cai.feedback.revise import revise
from cai.files import read_records
from cai.functions import look_in
from cai.pipeline.feedback import method_of
from cai.pipeline.run import Run, base_of
from cai.records import Preference, Revision


class RevisionEffect(NamedTuple):
    """A chain before and after; ``first`` is the first round that is not as it was."""

    before: Revision
    after: Revision
    first: int

    @property
    def moved(self) -> bool:
        """Whether the reply that comes out is another."""
        return self.before.final != self.after.final


class LabelEffect(NamedTuple):
    """A label before and after."""

    before: Preference
    after: Preference

    @property
    def moved(self) -> float:
        """How far the probability moved; 1 where a label came or went."""
        one, other = self.before.p_first, self.after.p_first
        if one is None or other is None:
            return float(one is not other)
        return abs(other - one)

    @property
    def flipped(self) -> bool:
        """Whether the other answer is the better one now."""
        one, other = self.before.p_first, self.after.p_first
        return one is not None and other is not None and (one - 0.5) * (other - 0.5) < 0


class Effects(NamedTuple):
    """What changed, and what it took."""

    chains: int
    touched_chains: list[RevisionEffect]
    labels: int
    touched_labels: list[LabelEffect]
    requests: int
    ptx_rows: int


def effects(folder: Path, constitution: Constitution) -> Effects:
    """Revise and judge what a run revised and judged, by another constitution.

    Raises:
        InputError: if the folder holds no run, or another process works in it.
    """
    if not (folder / "config.yaml").is_file() or not (folder / "responses.sqlite").is_file():
        raise InputError([Problem(str(folder), "is not the folder of a run")])
    try:
        with (
            FileLock(folder / ".lock").acquire(timeout=0),
            ResponseCache(folder / "responses.sqlite") as cache,
        ):
            run = Run(
                folder,
                RunConfig.model_validate(load(folder / "config.yaml").value),
                constitution,
                cache,
                base_of(folder),
            )
            look_in(run.base)
            chains, labels = _revised(run), _judged(run)
            counts = cache.usage.values()
            return Effects(
                len(chains),
                [c for c in chains if c.first < len(c.before.steps)],
                len(labels),
                [row for row in labels if _touched(row)],
                sum(c.requests for c in counts),
                sum(c.cached for c in counts),
            )
    except Timeout:
        raise InputError([Problem(str(folder), "is in use by another process")]) from None


def resolve_constitution(spec: str) -> Constitution:
    """A constitution by name or file, or the one of a run by its folder."""
    from cai.constitution import load_constitution

    lock = Path(spec) / "constitution.lock.yaml"
    return read_lock(lock) if lock.is_file() else load_constitution(spec)


def _revised(run: Run) -> list[RevisionEffect]:
    before = _records(run, "revise", Revision)
    config = run.config.revise
    made = revise(
        [r.sample for r in before],
        run.constitution,
        run.critic("diff"),
        rounds=config.rounds,
        direct=config.direct,
        seed=run.config.seed,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
    )
    after = {r.sample.id: r for r in made}
    return [
        RevisionEffect(r, after[r.sample.id], _first_difference(r, after[r.sample.id]))
        for r in before
    ]


def _first_difference(one: Revision, other: Revision) -> int:
    pairs = zip(one.steps, other.steps, strict=True)
    return next(
        (
            i
            for i, (a, b) in enumerate(pairs)
            # an edited prompt template changes the texts, and leaves the principle as it was
            if a.model_copy(update={"reason": ""}) != b.model_copy(update={"reason": ""})
        ),
        len(one.steps),
    )


def _judged(run: Run) -> list[LabelEffect]:
    before = _records(run, "judge", Preference)
    config = run.config.judge
    made = judge(
        [p.comparison for p in before],
        run.constitution,
        run.judge("diff"),
        method_of(run),
        principles=config.principles or 0,
        combine=config.combine,
        seed=run.config.seed,
    )
    return [LabelEffect(one, other) for one, other in zip(before, made, strict=True)]


def _touched(row: LabelEffect) -> bool:
    return [(r.principle, r.principle_hash, r.template) for r in row.before.judgments] != [
        (r.principle, r.principle_hash, r.template) for r in row.after.judgments
    ]


def _records(run: Run, stage: str, kind: type) -> Sequence:  # type: ignore[type-arg]
    return read_records(run.records(stage), kind) if run.records(stage).is_file() else []
