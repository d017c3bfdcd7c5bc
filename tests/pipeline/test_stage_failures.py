"""No run in which nothing worked ends well: failures are reported, and most of all failed stops."""

import pytest
from commands import Lines, run

from cai.errors import RunFailed
from cai.files import read_json
from cai.pipeline.failures import Limit, failure_counts


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
