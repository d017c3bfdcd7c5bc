"""The audit of revisions sees what is wrong with them, and nothing where nothing is."""

import random

import pytest

from cai.config import Audit
from cai.evaluate.revisions import RevisionAudit, revision_failures
from cai.records import Prompt, Provenance, Revision, Sample, Step

LIMITS = Audit().model_dump()
WHERE = Provenance(model="m", seed=0, temperature=1.0, max_tokens=9)


def step(text, draft, status="ok", **fields):
    return Step(
        principle="p",
        principle_hash="h",
        critique="",
        revision=text,
        unchanged=text == draft,
        status=status,
        **fields,
    )


def revision(number, *steps, draft="one two three four five six seven eight nine ten"):
    prompt = Prompt.of(f"question {number}")
    sample = Sample(id=str(number), prompt=prompt, response=draft, provenance=WHERE)
    return Revision(
        id=str(number), sample=sample, steps=tuple(step(*s[:1], draft, *s[1:]) for s in steps)
    )


def audited(revisions):
    audit = RevisionAudit()
    for one in revisions:
        audit.add(one)
    return audit.metrics()


def good(number):
    words = random.Random(number).choices("abcdefghij", k=8)
    return revision(number, (f"{number} " + " ".join(words),))


def test_good_revisions_pass():
    metrics = audited(map(good, range(40)))
    assert revision_failures(metrics, LIMITS) == []
    assert all(metrics[name]["value"] == 0 for name in ("cut", "invalid", "unchanged", "cleaned"))
    assert metrics["length_ratio"] == pytest.approx(10 / 11)


DRAFT = "one two three four five six seven eight nine ten"
WRONG = {
    "wrote something else": lambda i: revision(i, (DRAFT, "invalid")),
    "are their drafts": lambda i: revision(i, (DRAFT,)),
    "fewer words": lambda i: revision(i, ("no",)),
    "more words": lambda i: revision(i, ("word " * 60,)),
}


@pytest.mark.parametrize("says", WRONG)
def test_wrong_revisions_are_named_and_few_of_them_prove_nothing(says):
    (failure,) = revision_failures(audited(map(WRONG[says], range(40))), LIMITS)
    assert says in failure and "100%" in failure
    assert revision_failures(audited(map(WRONG[says], range(1))), LIMITS) == []
    half = [WRONG[says](i) if i % 8 == 0 else good(i) for i in range(40)]
    assert revision_failures(audited(half), LIMITS) == []


def test_every_kind_of_step_and_row_is_counted():
    metrics = audited(
        [
            revision(0, (DRAFT, "truncated"), (DRAFT, "failed")),
            revision(1, ("new words",), (DRAFT, "invalid")),
            Revision(id="2", sample=good(2).sample, steps=(step("x", "y", removed=("quotes",)),)),
        ]
    )
    shares = {
        name: (share["value"], share["n"])
        for name, share in metrics.items()
        if name != "length_ratio"
    }
    assert shares["cut"] == shares["invalid"] == shares["failed"] == (0.2, 5)
    assert shares["cleaned"] == (0.5, 2) and shares["without_row"] == (pytest.approx(1 / 3), 3)
    assert shares["unchanged"] == (0.0, 2) and shares["far_shorter"] == (0.5, 2)


def test_without_revisions_nothing_is_measured_and_nothing_is_wrong():
    metrics = audited([])
    assert all(share == {"n": 0} for share in metrics.values())
    assert revision_failures(metrics, LIMITS) == []
