"""The report: hostile text stays text, and nothing is loaded."""

import json
import re
from html.parser import HTMLParser

import pytest

from cai.constitution import load_constitution
from cai.constitution.lock import write_lock
from cai.errors import InputError
from cai.evaluate.audit import audit
from cai.files import read_json, read_records, write_json, write_records, write_text
from cai.records import Comparison, Judgment, Preference, Prompt, Provenance, Revision, Sample, Step
from cai.report import plots
from cai.report.page import write_report
from cai.report.report_data import select_labels
from cai.report.tables import Cell, Table, policy_table

INSULT = "reference/insult"
HOSTILE = '<script>alert(1)</script></script><img src=x onerror="x()">{{7*7}} javascript:x \x1b[31m'


@pytest.fixture
def run(tmp_path):
    """The folder of a run in which every text is hostile."""
    constitution = load_constitution("reference")
    write_lock(constitution, tmp_path / "constitution.lock.yaml")
    name = INSULT
    made = Provenance(model="m", seed=0, temperature=1, max_tokens=5)
    sample = Sample(id="s", prompt=Prompt.of(HOSTILE), response=HOSTILE, provenance=made)
    steps = (
        Step(
            principle=name, principle_hash="h", critique=HOSTILE, revision=HOSTILE, unchanged=False
        ),
        Step(
            principle=name,
            principle_hash="h",
            critique="",
            revision="",
            unchanged=False,
            status="empty",
        ),
    )
    write_records(tmp_path / "revise/records.jsonl", [Revision(id="r", sample=sample, steps=steps)])
    judgment = Judgment(
        principle=name,
        principle_hash="h",
        method="critique",
        p_first=0.9,
        evidence={"problem_in_first": 0.1, "problem_in_second": 0.9},
    )
    comparison = Comparison.of(sample.prompt, HOSTILE, "x" * 5_000_000)
    write_records(
        tmp_path / "judge/records.jsonl",
        [
            Preference(
                id="p", comparison=comparison, p_first=0.9, source="ai", judgments=(judgment,)
            )
        ],
    )
    for stage in ("revise", "judge"):
        write_json(tmp_path / stage / "manifest.json", {})
    write_text(tmp_path / "config.yaml", json.dumps({"models": {"initial": HOSTILE}}))
    rate = {"value": 0.5, "low": 0.0, "high": 1.0, "n": 2}
    policy = {
        "n": 4,
        "kl_from_initial": 0.0,
        "length": 3.0,
        "flags": {"harmful": {"eval_red_team": rate}, "$a_$ 好" + HOSTILE: {"eval_benign": rate}},
    }
    metrics = {
        "seed": 0,
        "constitution": {"name": "reference", "hash": "h"},
        "stages": {"revise": {"steps": 2}},
        "seconds": {"revise": 1.0},
        "cache": {"requests": 0, "cached": 0, "by_stage": {}, "total": {}},
        "policies": {"initial": policy, "rl_cai": policy},
    }
    write_json(tmp_path / "metrics.json", metrics)
    return tmp_path


class Loads(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.text, self.style = [], "", False

    def handle_starttag(self, tag, attrs):
        self.style = tag == "style"
        for name, value in attrs:
            if (
                tag in ("script", "img", "iframe", "link", "object", "embed")
                or name.startswith("on")
                or (name in ("src", "href") and not value.startswith("#"))
            ):
                self.found.append((tag, name, value))

    def handle_data(self, data):
        self.text += "" if self.style else data


def test_hostile_text_is_shown_and_does_nothing(run):
    html = write_report(run).read_text()
    page = Loads()
    page.feed(html)
    assert page.found == [] and "<script" not in html
    assert (
        "<script>alert(1)</script>" in page.text
        and "{{7*7}}" in page.text
        and "49" not in page.text.replace("5,000,000", "")
    )
    assert "default-src 'none'" in html and len(html) < 1_000_000 and "more characters" in page.text


def test_rounds_and_what_people_say_are_shown(run):
    write_text(run / "config.yaml", json.dumps({"iterations": 2, "models": {"initial": "m"}}))
    metrics = read_json(run / "metrics.json")
    test_sets = {"benign / refuse": {"n": 7, "right": 0.71, "lead": 1.25}}
    lately = {
        "by_principle": {INSULT: {"n": 12, "accuracy": 0.77}},
        "longer_is_better": 0.4,
        "calibration_error": 0.0625,
        "test_sets": test_sets,
    }
    metrics["stages"] |= {
        "reward": lately | {"by_principle": {INSULT: {"n": 99, "accuracy": 0.11}}},
        "reward-2": lately,
    }
    metrics["reward_model"] = {"accuracy": 0.5, "n": 4}
    write_json(run / "metrics.json", metrics)
    records = (run / "judge/records.jsonl").read_text()
    (run / "reward-2").mkdir()
    write_text(
        run / "judge-2/records.jsonl",
        records.replace("x" * 5_000_000, "an answer of the second round"),
    )
    write_json(run / "judge-2/manifest.json", {})
    metrics = audit(read_records(run / "judge-2/records.jsonl", Preference))
    rate = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}
    people = {
        "n": 50,
        "accuracy": rate,
        "kappa": rate | {"value": 0.55},
        "brier": 0.125,
        "ece": 0.031,
        "baselines": {"longer": 0.47},
    }
    bins = [
        {"predicted": 0.1, "observed": 0.2, "n": 3},
        {"predicted": 0.9, "observed": 0.7, "n": 4},
    ]
    examples = {kind: {"n": 0} for kind in ("plain", "crossed", "irrelevant", "adversarial_flips")}
    found = metrics | {
        "gate_failures": ["too little"],
        "examples": examples,
        "human": people | {"calibration": bins},
    }
    write_json(run / "audit-2/audit.json", found)
    html = write_report(run).read_text()
    text = " ".join(re.sub(r"<[^>]*>", " ", html).split())
    for shown in (
        "an answer of the second round",
        "77% 12",
        "calibration error is 0.062",
        "benign / refuse 71% 7 1.25",
        "kappa 0.55",
        "Brier score 0.125",
        "is right in 47%",
        "Not fit to train on: too little",
        "50% of the answers begin with",
    ):
        assert shown in text, shown
    assert "11%" not in text
    write_text(
        run / "config.yaml", json.dumps({"iterations": 1, "models": {"initial": "m"}})
    )  # what the second round left behind is none of this run's
    standalone = write_report(run).read_text()
    assert (
        "an answer of the second round" not in standalone
        and "11%" in standalone
        and "kappa" not in standalone
    )
    assert "Probability by the judge against the share that people prefer" in html.replace(
        "&#39;", "'"
    )


def test_updates_without_a_score_are_gaps_in_the_plots():
    rows = [
        {"update": 1, "kl": 0.0, "score": 0.5},
        {"update": 2, "kl": 0.1},
        {"update": 3, "kl": 0.2, "score": 0.7},
    ]
    assert "<svg" in plots.training(rows)
    seen = [{"update": i, "eval_kl": i, "eval_gold": 0.5, "eval_score": 0.1} for i in range(2)]
    assert "<svg" in plots.eval_points([*seen, {"update": 2, "eval_kl": 2, "eval_gold": 0.5}])


def test_what_failed_is_said(run):
    assert (
        "1 revision step returned no text; the previous reply was kept."
        in write_report(run).read_text()
    )


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no finished stage"):
        write_report(tmp_path)
    write_json(tmp_path / "metrics.json", {"seconds": {}, "stages": {}})
    with pytest.raises(InputError, match="has no finished stage"):
        write_report(tmp_path)


def shown(run, **changes):
    """The text of the report with other figures."""
    write_json(run / "metrics.json", read_json(run / "metrics.json") | changes)
    return " ".join(re.sub(r"<[^>]*>", " ", write_report(run).read_text()).split())


def test_what_has_no_figures_has_no_column_and_no_sentence(run):
    full = shown(run)
    assert (
        "harmful, held-out red-team prompts" in full
        and "KL from initial" in full
        and "judge prefers it to initial" not in full
    )
    some = {
        "n": 4,
        "truncated": 4,
        "flags": {"long": {"eval_benign": {"value": 0.25, "low": 0.1, "high": 0.7, "n": 4}}},
    }
    text = shown(
        run,
        policies={"initial": {"n": 4}, "sl_cai": some},
        judge={"n": 4, "decidable": 0},
        reward_model={"n": 0},
    )
    for absent in (
        "harmful",
        "KL from",
        "reward",
        "made in both orders",
        "violates the principle, the judge",
        "The reward model ranks",
    ):
        assert absent not in text.split("Sections")[-1].split("What each principle did")[0], absent
    assert "made in both orders" not in text and "The reward model ranks" not in text
    assert (
        "25% 10%–70%" in text
        and "sl_cai: 4 of 4 answers to held-out prompts were cut off at max_tokens" in text
    )
    assert "In 75% of the judgments made in both orders" in shown(
        run, judge={"n": 4, "order_consistency": 0.75}
    )


def test_why_policies_are_not_compared_and_what_is_not_finished_is_at_its_place(run):
    metrics = read_json(run / "metrics.json")
    del metrics["policies"]
    write_json(run / "metrics.json", metrics)
    text = shown(
        run,
        notes=["no held-out prompts: policies are not compared"],
        unfinished=["dpo", "evaluate"],
    )
    assert (
        "Not finished: dpo, evaluate." in text
        and "no held-out prompts: policies are not compared" in text
    )
    assert "No policy has been evaluated yet." in text


def test_figures_that_are_given_are_those_that_are_shown(run):
    metrics = read_json(run / "metrics.json")
    (run / "metrics.json").unlink()
    assert "seed 77." in write_report(run, metrics=metrics | {"seed": 77}).read_text()


def test_clear_labels_come_first_those_for_the_second_answer_too():
    def label(name, p):
        return Preference(
            id=name, comparison=Comparison.of(Prompt.of(name), "a", "b"), p_first=p, source="ai"
        )

    ties = [label(f"tie {i}", 0.5) for i in range(20)]
    assert [p.p_first for p in select_labels([*ties, label("first", 1.0), label("second", 0.0)])][
        :3
    ] in ([1.0, 0.0, 0.5], [0.0, 1.0, 0.5])


def test_the_movement_since_the_last_constitution_is_at_the_top(run):
    def metrics_with(harmful, digest, insult):
        policy = {"n": 4, "harmful_rate": harmful, "attributes": {"lie": {"eval_benign": 0.0}}}
        principles = {INSULT: insult, "reference/crime": "same"}
        constitution = {"name": "reference", "hash": digest, "principles": principles}
        return {"policies": {"rl_cai": policy}, "constitution": constitution}

    write_json(run / "previous_metrics.json", metrics_with(0.02, "before", "then"))
    text = shown(run, **metrics_with(0.09, "after", "now"))
    assert text.index("What moved") < text.index("How the policies compare")
    assert "Compared with constitution before : reference/insult edited." in text
    assert "rl_cai harmful 2.0% 9.0%" in text
    assert "lie" not in text.split("What moved")[1].split("How the policies")[0]
    assert "No rate changed" in shown(run, **metrics_with(0.03, "after", "now"))
    assert "What moved" not in shown(run, **metrics_with(0.09, "before", "then"))


def test_stages_that_are_out_of_date_or_failed_are_at_the_top(run):
    text = shown(
        run,
        unfinished=["sft", "judge", "dpo"],
        out_of_date={"sft": {"reasons": ["the constitution changed"], "constitution": "h"}},
        failed={"judge": "12 of 12 judgments failed"},
    )
    assert "left out of this report: sft (the constitution changed)." in text
    assert "Failed: judge: 12 of 12 judgments failed." in text
    assert "Not finished: dpo." in text


def test_columns_without_a_value_are_left_out():
    table = Table(["a", "b", "c"], [[Cell("x"), Cell(), Cell("1")], [Cell("y"), Cell(), Cell()]])
    assert table.without_empty_columns().header == ["a", "c"]
    policies = {"initial": {"n": 1}, "sl_cai": {"n": 1, "length": 3.0}}
    assert policy_table(policies).header == ["policy", "tokens"]


def test_the_page_can_be_read_aloud(run):
    """Headers have a scope, ids are shown, and the content is inside of main."""
    html = write_report(run).read_text()
    assert html.count("<main>") == html.count("</main>") == 1
    headers = re.findall(r"<th\b[^>]*>", html)
    assert headers
    assert all('scope="' in header for header in headers)
    assert "revision <code>r</code>" in html
    assert "label <code>p</code>" in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_the_audit_of_the_revisions_and_what_was_removed_are_shown(run):
    assert "check of the revisions" not in shown(run)
    share = {"value": 0.25, "low": 0.1, "high": 0.6, "n": 8}
    audit = {"unchanged": share, "cut": {"n": 0}, "length_ratio": 0.5}
    text = shown(run, stages={"revise": {"steps": 2, "audit": audit}})
    assert "check of the revisions share 95% interval of" in text
    assert "rows to train on: the same as the draft 25% 10%–60% 8" in text
    assert "cut off" not in text.split("check of the revisions")[1][:200]
    step = {"principle": INSULT, "principle_hash": "h", "critique": "", "unchanged": True}
    echoed = Step(
        revision="", status="invalid", reason="revision: it repeats", written="Echo", **step
    )
    cleaned = Step(revision="New", removed=("preface", "quotes"), written='Sure: "New"', **step)
    (old,) = read_records(run / "revise/records.jsonl", Revision)
    steps = (echoed, cleaned.model_copy(update={"unchanged": False}))
    write_records(run / "revise/records.jsonl", [old.model_copy(update={"steps": steps})])
    text = shown(run)
    assert "unusable: revision: it repeats" in text and "written Echo" in text
    assert "removed: preface, quotes" in text
    assert "1 revision step wrote something else than a rewritten answer" in text


def test_what_cai_eval_left_in_the_run_is_shown(run):
    found = {"value": 0.25, "low": 0.11, "high": 0.41, "n": 20, "without_grade": {}}
    unread = {"n": 0, "without_grade": {"unscored": 3, "empty": 1}}
    suite = {"metric": "refusal_rate", "better": "lower"}
    models = {"runs/a/initial": found, f"runs/a/{HOSTILE}": unread}
    held = {"condition": "refusal_rate > 0.2", "suite": "over-refusal", "model": "initial"}
    conditions = [held | {"holds": True}, held | {"condition": "refusal_rate > 1", "holds": False}]
    write_json(
        run / "eval/results.json",
        {"suites": {"over-refusal": suite | {"models": models}}, "conditions": conditions},
    )
    write_json(run / "other/results.json", {"suites": {}})
    write_text(run / "damaged/results.json", '{"suites": ')
    page = Loads()
    page.feed(write_report(run).read_text())
    section = " ".join(
        page.text.split("What cai eval measured")[1].split("95% intervals")[0].split()
    )
    assert page.found == []
    assert section.startswith("eval Fails: refusal_rate > 0.2 (over-refusal, initial).")
    assert "refusal rate, lower is better 25% 11%–41% 4 without a grade" in section
    assert section.partition("initial).")[2].startswith(" suiteinitial<script>alert(1)<")
    assert not re.search("other|damaged|refusal_rate > 1", section)
