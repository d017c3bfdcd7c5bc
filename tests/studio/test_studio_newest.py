"""The newest records of a run that goes on: also of a stage that is still writing its file."""

import pytest
from studio_runs import append, label, make_run, touch_owner
from test_studio_pages import Studio, words

from cai.studio.library import Library
from cai.studio.newest import SHOWN, newest


@pytest.fixture
def run(tmp_path):
    return Library([make_run(tmp_path / "a")]).runs["a"]


def test_the_last_records_of_the_last_stage_come_first(run):
    append(run.folder / "judge/records.jsonl", *[label(n) for n in range(20, 30)])
    found = newest(run)
    assert (found.stage, found.is_finished) == ("judge", True)
    assert [row["prompt"] for row in found.rows] == [f"Prompt {29 - n}" for n in range(SHOWN)]


def test_a_file_that_is_being_written_is_read_up_to_its_last_whole_line(run):
    path = run.folder / "judge/.records.jsonl.abcdefgh"
    path.write_text("x" * (1 << 20) + "\n")  # longer than what is looked at
    append(path, label(7, first="Whole."))
    with path.open("a") as file:
        file.write(label(8).model_dump_json()[:50])
    found = newest(run)
    assert (found.stage, found.is_finished) == ("judge", False)
    assert [row["answer"] for row in found.rows] == ["Whole."]


def test_they_are_shown_while_the_run_goes_on(run):
    studio = Studio(run.folder)
    assert "Newest records" not in studio.get("/run/a/")
    touch_owner(run.folder)
    page = studio.get("/run/a/progress")
    assert "Newest records of judge" in words(page)
    assert 'href="/run/a/judge/record?id=l4"' in page


def test_a_link_in_place_of_records_is_not_followed(run, tmp_path):
    victim = tmp_path / "victim.jsonl"
    append(victim, label(7))
    (run.folder / "judge/records.jsonl").unlink()
    (run.folder / "judge/records.jsonl").symlink_to(victim)
    assert newest(run).stage == "compare"
