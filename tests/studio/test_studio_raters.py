"""Questions by a principle, and the agreement of several raters, as cai.evaluate computes it."""

import json

import pytest
from rater import Rater
from studio_runs import PRINCIPLE, judgment, label, make_run

from cai.data.preferences import read_preferences
from cai.evaluate.agreement import agreement, matched
from cai.evaluate.judge_agreement import judge_agreement
from cai.records import Preference
from cai.studio.raters import compare_raters

OTHER = "reference/threat"
LABELS = [
    label(n, 0.9, judgment(0.9), judgment(0.8 if n % 3 else 0.3, principle=OTHER),
          first=f"Kind {n}.", second=f"Rude {n}.")
    for n in range(12)
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return make_run(tmp_path / "a", LABELS)


def rows(folder):
    return [json.loads(line) for line in (folder / "human_labels.jsonl").read_text().splitlines()]


def test_a_question_by_a_principle_shows_its_sentence_and_is_kept(folder):
    rater = Rater(folder, by=OTHER)
    assert "threat" in rater.page
    rater.prefer("Kind")
    assert rows(folder)[0]["principle"] == OTHER
    assert "1 label" in rater.page
    overall = Rater(folder)
    assert "threatening" not in overall.page
    assert "0 labels" in overall.page  # the same pair can be asked for overall
    overall.prefer("Rude")
    assert [row["principle"] for row in rows(folder)] == [OTHER, ""]
    overall.press("undo")
    overall.press("undo")  # takes back no answer to another question
    assert [row["principle"] for row in rows(folder)] == [OTHER]


def test_a_principle_that_the_run_does_not_have_is_refused(folder):
    rater = Rater(folder)
    assert rater.press("left", by="../../etc/passwd").status_code == 404
    assert not (folder / "human_labels.jsonl").exists()


def test_agreement_by_a_principle_is_with_the_judgments_by_it(folder):
    rater = Rater(folder, by=OTHER)
    for _ in range(10):
        rater.prefer("Kind")
    by_it = [Preference(**(dict(one) | {"p_first": one.judgments[1].p_first})) for one in LABELS]
    people = read_preferences(folder / "human_labels.jsonl").preferences
    expected = agreement(matched(by_it, people))
    assert f"in {expected['accuracy']['value']:.0%} of {expected['n']} (" in rater.page
    assert 0 < expected["accuracy"]["value"] < 1


def test_raters_are_compared_as_judges_are(folder):
    answers = {"ann": "KKKKRKRRKK", "bo": "KKRKRKRKTK", "cy": "KRRK"}
    for name, said in answers.items():
        rater = Rater(folder, name)
        for one in said:
            rater.press("tie") if one == "T" else rater.prefer("Kind" if one == "K" else "Rude")
    kept = rows(folder)
    expected = judge_agreement(
        [
            label(
                0, 0.5, *(judgment(r["p_first"], judge=r["rater"]) for r in kept if r["pair"] == p)
            )
            for p in {row["pair"] for row in kept}
        ]
    )
    page = rater.client.get("/run/a/people").text
    assert f"alpha <b>{expected['alpha']:.2f}</b>" in page
    assert 0 < expected["alpha"] < 1
    got = {frozenset(pair["raters"]): pair for pair in compare_raters(kept).pairs}
    assert len(expected["pairs"]) == len(got) == 3
    for pair in expected["pairs"]:
        assert got[frozenset(pair["judges"])]["kappa"] == pytest.approx(pair["kappa"])
        assert f"<td>{pair['kappa']:.2f}</td>" in page


def test_where_raters_differ_is_linked(folder):
    Rater(folder).press("left")
    page = Rater(folder, "bo").client.get("/run/a/people").text
    assert "Nowhere" in page
    pair = rows(folder)[0]["pair"]
    Rater(folder, "bo", pair=pair).prefer("Rude" if rows(folder)[0]["p_first"] else "Kind")
    page = Rater(folder, "cy").client.get("/run/a/people").text
    name = next(one.id for one in LABELS if one.comparison.id == pair)
    assert f'href="/run/a/judge/record?id={name}"' in page
    assert "ann: " in page
    assert "bo: " in page


def test_a_run_without_labels_says_so(folder):
    assert "Nobody has labeled" in Rater(folder).client.get("/run/a/people").text


def test_answers_to_different_questions_are_not_compared():
    one = {"pair": "p", "principle": "", "rater": "ann", "p_first": 1.0}
    raters = compare_raters([one, one | {"rater": "bo", "principle": PRINCIPLE, "p_first": 0.0}])
    assert (raters.alpha, raters.pairs, raters.differ) == (None, [], {})
