"""The report: hostile text stays text, and nothing is loaded."""

import json
from html.parser import HTMLParser

import pytest

from cai.constitution import load_constitution
from cai.constitution.lock import write_lock
from cai.errors import InputError
from cai.files import write_json, write_records, write_text
from cai.records import Comparison, Made, Preference, Prompt, Reading, Revision, Sample, Step
from cai.report.page import write_report

HOSTILE = '<script>alert(1)</script></script><img src=x onerror="x()">{{7*7}} javascript:x \x1b[31m'


@pytest.fixture
def run(tmp_path):
    """The folder of a run in which every text is hostile."""
    law = load_constitution("reference")
    write_lock(law, tmp_path / "constitution.lock.yaml")
    name = "reference/insult"
    made = Made(model="m", seed=0, temperature=1, max_tokens=5)
    sample = Sample(id="s", prompt=Prompt.of(HOSTILE), response=HOSTILE, made=made)
    steps = (
        Step(principle=name, principle_hash="h", critique=HOSTILE, revision=HOSTILE, unchanged=False),
        Step(principle=name, principle_hash="h", critique="", revision="", unchanged=False, status="empty"),
    )
    write_records(tmp_path / "revise/records.jsonl", [Revision(id="r", sample=sample, steps=steps)])
    reading = Reading(
        principle=name, principle_hash="h", method="critique", p_first=0.9, evidence={"problem_in_first": 0.1, "problem_in_second": 0.9}
    )
    comparison = Comparison.of(sample.prompt, HOSTILE, "x" * 5_000_000)
    write_records(
        tmp_path / "judge/records.jsonl", [Preference(id="p", comparison=comparison, p_first=0.9, source="ai", readings=(reading,))]
    )
    for stage in ("revise", "judge"):
        write_json(tmp_path / stage / "manifest.json", {})
    write_text(tmp_path / "config.yaml", json.dumps({"models": {"initial": HOSTILE}}))
    policy = {"harmful_rate": 0.5, "helpful_rate": 1.0, "evasive_rate": 0.0, "kl_from_initial": 0.0, "length": 3.0}
    policy |= {f"{k}_interval": [0.0, 1.0] for k in ("harmful_rate", "helpful_rate", "evasive_rate")}
    metrics = {
        "seed": 0,
        "constitution": {"name": "reference", "hash": "h"},
        "stages": {"revise": {"steps": 2}},
        "seconds": {"revise": 1.0},
        "memo": {"ever": {}, "by_stage": {}, "calls": 0, "hits": 0},
        "policies": {"initial": policy, "rl_cai": policy},
    }
    write_json(tmp_path / "metrics.json", metrics)
    return tmp_path


class Loads(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if (
                tag in ("script", "img", "iframe", "link", "object", "embed")
                or name.startswith("on")
                or (name in ("src", "href") and not value.startswith("#"))
            ):
                self.found.append((tag, name, value))

    def handle_data(self, data):
        self.text += data


def test_hostile_text_is_shown_and_does_nothing(run):
    html = write_report(run).read_text()
    page = Loads()
    page.feed(html)
    assert page.found == [] and "<script" not in html
    assert "<script>alert(1)</script>" in page.text and "{{7*7}}" in page.text and "49" not in page.text.replace("5,000,000", "")
    assert "default-src 'none'" in html and len(html) < 1_000_000 and "more characters" in page.text


def test_what_failed_is_said(run):
    assert "1 revision steps were empty; the reply before was kept" in write_report(run).read_text()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no finished stage"):
        write_report(tmp_path)
