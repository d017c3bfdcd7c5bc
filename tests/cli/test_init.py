"""``cai init`` fills a folder, and the command it prints uses that folder's constitution."""

import re
import shlex

import pytest

from cai.errors import InputError, LimitReached

ENTER = {"my assistant": "cd 'my assistant' && ", "my-assistant": "cd my-assistant && ", ".": ""}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_file(command, work, monkeypatch):
    """The run file of a printed command, from the folder that it enters."""
    enter, _, call = command.rpartition(" && ")
    if enter:
        monkeypatch.chdir(work / shlex.split(enter)[1])
    assert shlex.split(call)[:2] == ["cai", "run"]
    return shlex.split(call)[2]


@pytest.mark.parametrize("folder", ENTER)
def test_the_command_it_prints_runs_the_edited_constitution(cai, work, monkeypatch, folder):
    last_line = cai("init", folder).stdout.splitlines()[-1]
    command = last_line.partition(", then: ")[2]
    assert command == f"{ENTER[folder]}cai run examples/quickstart.yaml"
    path = run_file(command, work, monkeypatch)
    first_line = cai("run", path, "--dry-run").stdout.splitlines()[0]
    assert first_line.startswith("constitution constitution/reference.yaml (16 principles, ")
    insult = work / folder / "principles/reference/insult.yaml"
    insult.write_text(insult.read_text().replace("compare:", "comapre:"))
    for place, file in (
        (work / folder, path),
        (work, f"{folder}/examples/quickstart.yaml"),
        (work / folder / "examples", "quickstart.yaml"),
    ):
        monkeypatch.chdir(place)
        refused = str(cai("run", file, "--dry-run", code=1).exception)
        assert "insult.yaml:6:1: unknown key 'comapre' (did you mean 'compare'?)" in refused


def test_the_folder_checks_and_is_not_overwritten(cai, work, monkeypatch):
    files = int(cai("init", "mine").stdout.split()[1])
    again = cai("init", "mine", code=1).exception
    assert isinstance(again, InputError)
    assert re.search(rf"and {files - 1} other files exist already; .* --force$", str(again))
    cai("init", "mine", "--force")
    monkeypatch.chdir("mine")
    assert re.fullmatch(r"\d+ files checked, no problems\n", cai("check").stdout)


def test_a_folder_that_cannot_be_written_ends_in_one_line(cai, work):
    (work / "file").write_text("x")
    error = cai("init", "file/mine", code=1).exception
    assert isinstance(error, LimitReached)
    assert re.fullmatch(r"file/mine/principles/\S+: cannot be written: Not a directory", str(error))


def test_training_into_a_place_that_cannot_be_written_ends_in_one_line(cai, work, root):
    (work / "file").write_text("x")
    path = root / "examples/human_feedback.yaml"
    settings = ("--set", f"out={work}/file/out", "--set", "data.limit=2")
    error = cai("sft", path, *settings, code=1).exception
    assert isinstance(error, InputError)
    assert str(error).endswith("file/out: cannot be written: Not a directory")


@pytest.mark.parametrize(
    ("command", "file"),
    [("run", "examples/quickstart.yaml"), ("sft", "examples/human_feedback.yaml")],
)
def test_an_example_that_is_not_there_leads_to_init(cai, work, command, file):
    error = str(cai(command, file, code=1).exception)
    assert error.startswith(f"{file}: ")
    assert "`cai init` copies the examples" in error
    assert not list(work.iterdir())
