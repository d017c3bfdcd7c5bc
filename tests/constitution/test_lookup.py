"""Where a constitution is looked for, and what is messages of a file that is none."""

import shutil
from pathlib import Path

import pytest

from cai import shipped
from cai.constitution import load_constitution
from cai.constitution.kinds import CONSTITUTION, PRINCIPLE, RUN, TRAINING, find_files
from cai.constitution.lint import check
from cai.constitution.load import find_constitution
from cai.constitution.lock import read_lock
from cai.errors import InputError

PRINCIPLE_TEXT = "title: A\ncritique: Find {n} in the reply.\nrevise: Remove {n}.\ncompare: Which has less {n}?\n"
CONSTITUTION_TEXT = "title: L\nrevise: {principles: ['*']}\njudge: {principles: ['*']}\n"


def make_project(folder: Path, *names: str) -> Path:
    (folder / "principles").mkdir(parents=True)
    (folder / "constitution").mkdir()
    for name in names:
        (folder / "principles" / f"{name}.yaml").write_text(PRINCIPLE_TEXT.replace("{n}", name))
    (folder / "constitution" / "mine.yaml").write_text(CONSTITUTION_TEXT)
    return folder


def test_names_are_looked_up_beside_the_run_file_first(tmp_path, monkeypatch):
    mine, here = make_project(tmp_path / "mine", "apple"), make_project(tmp_path / "here", "berry")
    (mine / "runs/deep").mkdir(parents=True)
    monkeypatch.chdir(here)
    assert list(load_constitution("mine", mine).principles) == ["apple"]
    assert list(load_constitution("mine", mine / "runs/deep").principles) == ["apple"]
    assert list(load_constitution("mine").principles) == ["berry"]
    assert (
        find_constitution("general", mine).resolve()
        == (shipped.folder("constitution") / "general.yaml").resolve()
    )
    shutil.rmtree(mine / "constitution")
    assert list(load_constitution("mine", mine).principles) == ["berry"]


def test_paths_are_relative_to_the_run_file_first(tmp_path, monkeypatch):
    mine, here = make_project(tmp_path / "mine", "apple"), make_project(tmp_path / "here", "berry")
    monkeypatch.chdir(here)
    assert list(load_constitution("constitution/mine.yaml", mine).principles) == ["apple"]
    (mine / "constitution/mine.yaml").unlink()
    assert list(load_constitution("constitution/mine.yaml", mine).principles) == ["berry"]
    with pytest.raises(InputError) as caught:
        find_constitution("other.yaml", mine)
    assert (
        str(caught.value)
        == "other.yaml: there is no constitution file ../mine/other.yaml or other.yaml"
    )


def test_the_path_is_shown_from_the_working_folder(tmp_path, monkeypatch):
    make_project(tmp_path / "mine", "apple")
    (tmp_path / "mine/examples").mkdir()
    monkeypatch.chdir(tmp_path)
    assert str(find_constitution("mine", "mine/examples")) == "mine/constitution/mine.yaml"
    monkeypatch.chdir(tmp_path / "mine/examples")
    assert str(find_constitution("mine", ".")) == "../constitution/mine.yaml"
    (tmp_path / "mine/principles/apple.yaml").write_text("titel: A\n")
    with pytest.raises(InputError, match=r"^\.\./principles/apple\.yaml:1:1: "):
        load_constitution("mine", ".")
    monkeypatch.chdir(tmp_path / "mine/constitution")
    with pytest.raises(InputError, match=r"^\.\./principles/apple\.yaml:1:1: "):
        load_constitution("mine.yaml")


def test_an_unknown_name_says_where_it_was_looked_for(tmp_path, monkeypatch):
    make_project(tmp_path / "mine", "apple")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        find_constitution("mime", "mine")
    messages = str(caught.value)
    assert messages.startswith(
        "mime: no constitution has this name (did you mean 'mine'?); there are "
    )
    assert "searched mine/constitution, " in messages and "README" not in messages
    (tmp_path / "mine.txt").write_text(CONSTITUTION_TEXT)
    with pytest.raises(
        InputError, match=r"mine\.txt: a constitution is a file that ends in \.yaml, \.yml, \.md"
    ):
        find_constitution("mine.txt")


def test_the_other_suffix_of_yaml_works_for_both_kinds_of_file(tmp_path, monkeypatch):
    make_project(tmp_path, "apple", "berry")
    (tmp_path / "principles/apple.yaml").rename(tmp_path / "principles/apple.yml")
    (tmp_path / "constitution/mine.yaml").rename(tmp_path / "constitution/mine.yml")
    monkeypatch.chdir(tmp_path)
    assert list(load_constitution("mine").principles) == ["apple", "berry"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (PRINCIPLE_TEXT, "a principle"),
        ("constitution: mine\nprompts: {red_team: a, benign: b}\n", "a run file"),
        ("out: o\ndata: {preferences: [a]}\n", "a training file"),
    ],
)
def test_a_file_of_another_kind_is_named_as_what_it_is(tmp_path, text, kind):
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_constitution(tmp_path / "file.yaml")
    assert str(caught.value) == f"{tmp_path}/file.yaml:1:1: this is not a constitution but {kind}"


def test_priorities_are_an_unknown_key(tmp_path, root):
    make_project(tmp_path, "apple")
    path = tmp_path / "constitution/mine.yaml"
    path.write_text(CONSTITUTION_TEXT + "priorities: [apple]\n")
    expected = [f"{path}:4:1: unknown key 'priorities'"]
    assert list(map(str, check([path]).problems)) == expected
    with pytest.raises(InputError) as caught:
        load_constitution(path)
    assert str(caught.value) == expected[0]
    for file in [
        *root.glob("constitution/*"),
        *root.glob("principles/**/*.*"),
        *root.glob("cai/constitution/*.py"),
    ]:
        assert "priorities" not in file.read_text(encoding="utf-8"), file


def test_a_lock_file_of_another_version_is_refused_in_a_line(tmp_path):
    (tmp_path / "lock.yaml").write_text(
        "hash: x\nconstitution:\n  name: a\n  title: b\n  principles: {}\n  weights: {}\n  priorities: []\n"
    )
    with pytest.raises(InputError, match=r"lock\.yaml:7:3: unknown key 'priorities'"):
        read_lock(tmp_path / "lock.yaml")
    (tmp_path / "lock.yaml").write_text("title: a\n")
    with pytest.raises(InputError, match="is not the lock file of a constitution"):
        read_lock(tmp_path / "lock.yaml")


def test_check_lints_the_principles_of_a_constitution_only(tmp_path, monkeypatch):
    make_project(tmp_path, "apple", "berry", "cherry")
    (tmp_path / "constitution/mine.yaml").write_text(
        "title: L\nrevise: {principles: ['*'], exclude: [cherry]}\n"
    )
    (tmp_path / "principles/apple.yaml").write_text(
        "title: A\ncritique: Find {{ promt }}.\nrevise: Remove it.\n"
    )
    (tmp_path / "principles/berry.yaml").write_text("title: A\nnotes: nothing\n")
    (tmp_path / "principles/cherry.yaml").write_text("titel: A\n")
    monkeypatch.chdir(tmp_path)
    files = check([Path("constitution/mine.yaml")])
    assert list(map(str, files.problems)) == [
        "constitution/mine.yaml:2:10: berry is used to revise but has no critique and no revise text",
        "principles/apple.yaml:2:1: unknown slot {{ promt }} (did you mean 'prompt'?); the only slot is {{ prompt }}",
        "principles/berry.yaml:1:1: has no text for a model; add critique and revise, or compare, or all three",
    ]
    assert sorted(map(str, files.files)) == [
        "constitution/mine.yaml",
        "principles/apple.yaml",
        "principles/berry.yaml",
    ]
    assert list(load_constitution("mine").principles) == ["apple", "berry"], (
        "what is not drawn is not read"
    )


@pytest.mark.parametrize("spelling", ["relative", "absolute"])
def test_check_counts_each_problem_once(tmp_path, monkeypatch, spelling):
    make_project(tmp_path, "apple", "berry")
    (tmp_path / "constitution/other.yaml").write_text(CONSTITUTION_TEXT)
    (tmp_path / "principles/apple.yaml").write_text("title: a: b\n")
    (tmp_path / "principles/berry.yaml").write_text("title: A\ncritque: x\n")
    monkeypatch.chdir(tmp_path)
    base = tmp_path if spelling == "absolute" else Path()
    files = check([base / "principles", base / "constitution"])
    lines = [str(problem).replace(f"{tmp_path}/", "") for problem in files.problems]
    assert [line.partition(": ")[0] for line in lines] == [
        "principles/apple.yaml:1:9",
        "principles/berry.yaml:2:1",
    ]
    assert len(files.files) == 4


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("titel: T\ncritque: x\nrevize: y\n", PRINCIPLE),
        ("titel: T\nrevize: {principles: [a]}\njudge: {principles: [a]}\n", CONSTITUTION),
        ("title: T\nrevise: {principles: [a]}\n", CONSTITUTION),
        ("title: T\nrevise: Write it again.\n", PRINCIPLE),
        ("constitution: mine\npromts: {red_team: a}\n", RUN),
        ("constitution: mine\nprompts: {}\nrevise: {rounds: 2}\njudge: {principles: 1}\n", RUN),
        ("out: o\ndata: {}\nsft: {}\nppo: {}\n", TRAINING),
    ],
)
def test_a_file_is_known_by_its_keys_even_if_they_are_misspelt(tmp_path, text, kind):
    (tmp_path / "file.yaml").write_text(text)
    assert find_files([tmp_path / "file.yaml"]).by_kind[kind] == [tmp_path / "file.yaml"]


def test_files_of_no_kind_are_skipped_in_folders_only(tmp_path):
    for name, text in {
        "odd.yaml": "compute: gpu\n",
        "list.yaml": "- a\n",
        "notes.txt": "x",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "bad.yaml").write_text("a: b: c\n")
    (tmp_path / "runs/r").mkdir(parents=True)
    (tmp_path / "runs/r/constitution.lock.yaml").write_text("hash: x\n")
    (tmp_path / "runs/r/config.yaml").write_text("constitution: mine\nprompts: {}\n")
    in_folder = find_files([tmp_path])
    assert [path.name for path in in_folder.skipped] == ["list.yaml", "odd.yaml"]
    assert [problem.where for problem in in_folder.problems] == [f"{tmp_path}/bad.yaml:1:5"]
    assert not any(in_folder.by_kind.values())
    named = find_files([tmp_path / "odd.yaml", tmp_path / "notes.txt", tmp_path / "none.yaml"])
    messages = [str(problem).replace(f"{tmp_path}/", "") for problem in named.problems]
    assert messages[0].startswith(
        "odd.yaml: is not a file that cai knows: a principle has keys such as critique, revise, compare; a"
    )
    assert messages[1:] == [
        "notes.txt: is not a YAML file (.yaml, .yml) or a constitution in Markdown (.md)",
        "none.yaml: there is no such file or folder",
    ]
