"""No run in which nothing worked ends well: failures are reported, and most of all failed stops."""

import re

import pytest
from commands import Lines, cai, run

from cai.errors import RunFailed
from cai.files import read_json, read_records
from cai.pipeline.failures import Limit, Tally, failure_counts
from cai.records import Preference
from cai.report.report_data import gather


def test_failed_records_are_reported_by_kind(judged_project):
    lines = Lines()
    run(judged_project, "sample.max_tokens=9", "max_failed=1", until="sample", reporter=lines)
    metrics = read_json(judged_project / "runs/r/sample/manifest.json")["metrics"]
    failed = metrics["truncated"]
    assert 0 < failed < 14 and metrics["samples"] == 14
    expected = f"{failed} of 14 answers cannot be used: {failed} cut off at sample.max_tokens = 9"
    assert f"sample: {expected}" in lines.lines


def test_stage_with_mostly_failed_records_stops_with_remedy(judged_project):
    with pytest.raises(RunFailed) as caught:
        run(judged_project, "revise.max_tokens=1")
    first, second, *_ = str(caught.value).splitlines()
    assert first.startswith("16 of 16 critique and revision steps cannot be used: 16 cut off at")
    assert first.endswith("revise.max_tokens = 1") and caught.value.exit_code == 5
    assert second == "raise revise.max_tokens; to continue anyway: --set max_failed=1.0"
    metrics = read_json(judged_project / "runs/r/metrics.json")
    assert metrics["failed"]["revise"] == first
    assert "sample" in metrics["stages"] and "judge" not in metrics["stages"]


def test_training_without_usable_rows_names_the_true_cause(judged_project):
    settings = ("revise.max_tokens=1", "sample.max_tokens=1", "max_failed=1", "sft.control=false")
    expected = (
        r"there is nothing to fine-tune on: no revision can be used "
        r"\(16 cut off at revise.max_tokens = 1\); no answer to a benign prompt can be used "
        r"\(6 cut off at sample.max_tokens = 1\)"
    )
    with pytest.raises(RunFailed, match=expected):
        run(judged_project, *settings, until="sft")


def test_control_without_usable_answers_can_be_left_out(judged_project):
    settings = ("sample.max_tokens=1", "max_failed=1")
    with pytest.raises(RunFailed, match=r"control policy.*6 cut off.*--set sft.control=false"):
        run(judged_project, *settings, until="control")
    run(judged_project, *settings, "sft.control=false", until="sft")


SILENT = """
from cai.backends.scripted import ScriptedBackend

def make():
    return ScriptedBackend(lambda messages, seed: "Neither, both.", None, name="no verdict")
"""


def test_judge_whose_verdicts_cannot_be_read_stops_the_run(judged_project):
    (judged_project / "examples/no_verdict.py").write_text(SILENT)
    settings = ("models.judge=no_verdict:make", "judge.method=sampled_votes")
    with pytest.raises(RunFailed, match=r"of 12 comparisons .* without a readable verdict"):
        run(judged_project, *settings)


FLAKY = """
from pathlib import Path
from cai.backends.protocol import failed
from cai.backends.scripted import ScriptedBackend

class Flaky(ScriptedBackend):
    def respond(self, requests):
        is_well = (Path(__file__).parent / "well").exists()
        for number, response in super().respond(requests):
            if number % EVERY == 0 and not is_well:
                response = failed(requests[number], f"503 the model is loading (request {number})")
            yield number, response

def make():
    return Flaky(lambda messages, seed: "Fine.", lambda messages, options: (-0.1, -2.0), "flaky")
"""


def flaky_judge(project, every):
    # a module of its own, for modules are imported once
    (project / f"examples/flaky_{every}.py").write_text(FLAKY.replace("EVERY", str(every)))
    return (f"models.judge=flaky_{every}:make",)


def test_failed_requests_are_asked_again_by_the_next_run(judged_project):
    settings = flaky_judge(judged_project, 7)
    metrics = run(judged_project, *settings, until="judge")
    folder = judged_project / "runs/r"
    failed = sum(metrics["failed_requests"]["judge"].values())
    (reason,) = metrics["failed_requests"]["judge"]
    assert 0 < failed < 12 and reason.startswith("503 the model is loading (request ")
    broken = [
        p for p in read_records(folder / "judge/records.jsonl", Preference) if p.p_first is None
    ]
    assert {p.status for p in broken} == {"failed"} and "503 the model" in broken[0].reason
    assert metrics["stages"]["judge"]["unscored"] == len(broken)
    ((status, reasons),) = metrics["stages"]["judge"]["reasons"].items()
    assert status == "failed" and sum(reasons.values()) == len(broken)
    shown = cai(judged_project, "status", "runs/r").stdout
    assert f"judge      finished with failures: {failed} requests failed (503 the model" in shown
    assert any("the next run asks again" in line for line in gather(folder).problems)

    (judged_project / "examples/well").touch()
    lines = Lines()
    metrics = run(judged_project, *settings, until="judge", reporter=lines)
    assert lines.done == ["judge"]
    assert any(line.startswith(f"judge: asking again: {failed} requests") for line in lines.lines)
    assert metrics["cache"]["by_stage"]["judge"]["requests"] == failed
    assert metrics["failed_requests"] == {} and metrics["stages"]["judge"]["unscored"] == 0
    lines = Lines()
    run(judged_project, *settings, until="judge", reporter=lines)
    assert lines.done == []


def test_stage_in_which_most_failed_stops_with_the_words_of_the_server(judged_project):
    settings = flaky_judge(judged_project, 1)
    with pytest.raises(RunFailed) as caught:
        run(judged_project, *settings, until="judge")
    first, second, *_ = str(caught.value).splitlines()
    assert re.match(r"1\d of 12 comparisons cannot be used: 1\d failed requests \(", first)
    assert "(503 the model is loading (request" in first
    assert second.startswith("run the same command again to ask for them again")


def test_reasons_that_differ_in_numbers_are_one():
    tally = Tally()
    for number in range(3):
        tally.add("failed", f"500 request req_{number}f{number} at 12:0{number}")
    tally.add("failed", "404 gone")
    tally.add("ok", "ignored")
    assert tally.metrics() == {
        "reasons": {"failed": {"500 request req_0f0 at 12:00": 3, "404 gone": 1}}
    }
    assert tally.failed == {"failed": 4} and Tally().metrics() == {}


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({"ok": 3}, ""),
        ({"ok": 1, "empty": 2, "truncated": 3}, "3 cut off at x.max_tokens = 7, 2 empty"),
        ({"failed": 1, "filtered": 1200}, "1,200 withheld by the server, 1 failed requests"),
    ],
)
def test_failures_in_words(statuses, expected):
    assert failure_counts(statuses, Limit("x.max_tokens", 7)) == expected
