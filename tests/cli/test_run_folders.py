"""Commands that look at a run: which run they take, what they print, and what they export."""

import json

import pytest
from made_runs import PROBABILITIES, make_run

MIN_MARGIN_REASON = "label closer than 0.1 to one half"


@pytest.fixture
def newer(run_folder):
    return make_run(run_folder.parent / "b", started=2_000_000_000)


@pytest.mark.parametrize("command", ["status", "audit", "influence", "export"])
def test_the_newest_run_is_taken_and_named(cai, newer, command):
    assert cai(command).stdout.splitlines()[0] == "run runs/b"


@pytest.mark.parametrize("command", ["status", "audit", "influence", "export", "report", "chat"])
def test_a_folder_that_is_no_run_is_refused(cai, run_folder, command):
    done = cai(command, run_folder.parent, code=1)
    assert str(done.exception) == f"{run_folder.parent}: is not the folder of a run"


def test_without_any_run_a_folder_is_asked_for(cai, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "there is no run in runs/" in str(cai("status", code=1).exception)


def test_status_has_a_row_for_every_stage_in_80_columns(cai, run_folder):
    lines = cai("status", run_folder).stdout.splitlines()
    assert [line.split()[0] for line in lines][:3] == ["prompts", "sample", "revise"]
    assert [line for line in lines if line.startswith("judge ")] == ["judge      interrupted"]
    assert max(map(len, lines)) <= 80


def test_audit_of_labels(cai, run_folder):
    shown = cai("audit", run_folder).stdout
    assert "labels                      7" in shown
    assert "without a label             14.3%" in shown
    assert "ties (near one half)        50.0%" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_influence_of_principles(cai, run_folder):
    rows = cai("influence", run_folder).stdout.splitlines()
    assert rows[0].split() == ["principle", "labels", "opinion", "decides", "flips", "moves"]
    assert rows[1].split()[:3] == ["reference/insult", "6", "50.0%"]


def exported(folder):
    rows = (folder / "export/preferences.jsonl").read_text().splitlines()
    return [json.loads(row)["p_chosen"] for row in rows], (folder / "export/README.md").read_text()


def test_export_leaves_out_labels_near_one_half(cai, run_folder):
    shown = cai("export", run_folder).stdout
    p_chosen, card = exported(run_folder)
    assert sorted(p_chosen) == [0.62, 0.98, 0.99]
    assert f"left out: {MIN_MARGIN_REASON}: 3" in shown
    assert f"| left out: {MIN_MARGIN_REASON} | 3 |" in card
    assert "left out: unscored: 1" in shown


@pytest.mark.parametrize(("margin", "written"), [("0", 5), ("0.04", 5), ("0.2", 2)])
def test_export_min_margin(cai, run_folder, margin, written):
    shown = cai("export", run_folder, "--min-margin", margin).stdout
    assert len(exported(run_folder)[0]) == written
    if margin == "0":  # a label of exactly one half chooses neither answer
        assert "left out: tie: 1" in shown
        assert len(PROBABILITIES) == written + 2


def test_export_leaves_a_folder_of_other_things_alone(cai, run_folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/README.md").write_text("mine")
    done = cai("export", run_folder, "--to", tmp_path / "mine", code=1)
    assert "holds other things than an export" in str(done.exception)
    assert (tmp_path / "mine/README.md").read_text() == "mine"
    for _ in range(2):
        cai("export", run_folder, "--to", tmp_path / "new")


def test_export_refuses_an_unknown_format(cai, run_folder):
    done = cai("export", run_folder, "--format", "trll", code=1)
    assert "did you mean 'trl'?" in str(done.exception)
