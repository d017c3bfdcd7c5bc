"""Where a constitution is looked for, and what is said of a file that is none."""

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
LAW = "title: L\nrevise: {principles: ['*']}\njudge: {principles: ['*']}\n"


def make_project(folder: Path, *names: str) -> Path:
    (folder / "principles").mkdir(parents=True)
    (folder / "constitution").mkdir()
    for name in names:
        (folder / "principles" / f"{name}.yaml").write_text(PRINCIPLE_TEXT.replace("{n}", name))
    (folder / "constitution" / "law.yaml").write_text(LAW)
    return folder


def test_a_name_means_the_file_beside_the_run_file_then_here_then_the_shipped_one(
    tmp_path, monkeypatch
):
    mine, here = make_project(tmp_path / "mine", "apple"), make_project(tmp_path / "here", "berry")
    (mine / "runs/deep").mkdir(parents=True)
    monkeypatch.chdir(here)
    assert list(load_constitution("law", mine).principles) == ["apple"]
    assert list(load_constitution("law", mine / "runs/deep").principles) == ["apple"]
    assert list(load_constitution("law").principles) == ["berry"]
    assert (
        find_constitution("general", mine).resolve()
        == (shipped.folder("constitution") / "general.yaml").resolve()
    )
    shutil.rmtree(mine / "constitution")
    assert list(load_constitution("law", mine).principles) == ["berry"]


def test_a_path_is_relative_to_the_run_file_then_to_the_working_folder(tmp_path, monkeypatch):
    mine, here = make_project(tmp_path / "mine", "apple"), make_project(tmp_path / "here", "berry")
    monkeypatch.chdir(here)
    assert list(load_constitution("constitution/law.yaml", mine).principles) == ["apple"]
    (mine / "constitution/law.yaml").unlink()
    assert list(load_constitution("constitution/law.yaml", mine).principles) == ["berry"]
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
    assert str(find_constitution("law", "mine/examples")) == "mine/constitution/law.yaml"
    monkeypatch.chdir(tmp_path / "mine/examples")
    assert str(find_constitution("law", ".")) == "../constitution/law.yaml"
    (tmp_path / "mine/principles/apple.yaml").write_text("titel: A\n")
    with pytest.raises(InputError, match=r"^\.\./principles/apple\.yaml:1:1: "):
        load_constitution("law", ".")
    monkeypatch.chdir(tmp_path / "mine/constitution")
    with pytest.raises(InputError, match=r"^\.\./principles/apple\.yaml:1:1: "):
        load_constitution("law.yaml")


def test_an_unknown_name_says_where_it_was_looked_for(tmp_path, monkeypatch):
    make_project(tmp_path / "mine", "apple")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        find_constitution("lew", "mine")
    said = str(caught.value)
    assert said.startswith("lew: no constitution has this name (did you mean 'law'?); there are ")
    assert "searched mine/constitution, " in said and "README" not in said
    (tmp_path / "law.txt").write_text(LAW)
    with pytest.raises(
        InputError, match=r"law\.txt: a constitution is a file that ends in \.yaml, \.yml, \.md"
    ):
        find_constitution("law.txt")


def test_the_other_suffix_of_yaml_works_for_both_kinds_of_file(tmp_path, monkeypatch):
    make_project(tmp_path, "apple", "berry")
    (tmp_path / "principles/apple.yaml").rename(tmp_path / "principles/apple.yml")
    (tmp_path / "constitution/law.yaml").rename(tmp_path / "constitution/law.yml")
    monkeypatch.chdir(tmp_path)
    assert list(load_constitution("law").principles) == ["apple", "berry"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (PRINCIPLE_TEXT, "a principle"),
        ("constitution: law\nprompts: {red_team: a, benign: b}\n", "a run file"),
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
    path = tmp_path / "constitution/law.yaml"
    path.write_text(LAW + "priorities: [apple]\n")
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


def test_checking_a_constitution_lints_the_principles_it_draws_and_no_others(tmp_path, monkeypatch):
    make_project(tmp_path, "apple", "berry", "cherry")
    (tmp_path / "constitution/law.yaml").write_text(
        "title: L\nrevise: {principles: ['*'], exclude: [cherry]}\n"
    )
    (tmp_path / "principles/apple.yaml").write_text(
        "title: A\ncritique: Find {{ promt }}.\nrevise: Remove it.\n"
    )
    (tmp_path / "principles/berry.yaml").write_text("title: A\nnotes: nothing\n")
    (tmp_path / "principles/cherry.yaml").write_text("titel: A\n")
    monkeypatch.chdir(tmp_path)
    found = check([Path("constitution/law.yaml")])
    assert list(map(str, found.problems)) == [
        "constitution/law.yaml:2:10: berry is used to revise but has no critique and no revise text",
        "principles/apple.yaml:2:1: unknown slot {{ promt }} (did you mean 'prompt'?); the only slot is {{ prompt }}",
        "principles/berry.yaml:1:1: has no text for a model; add critique and revise, or compare, or all three",
    ]
    assert sorted(map(str, found.files)) == [
        "constitution/law.yaml",
        "principles/apple.yaml",
        "principles/berry.yaml",
    ]
    assert list(load_constitution("law").principles) == ["apple", "berry"], (
        "what is not drawn is not read"
    )


@pytest.mark.parametrize("spelling", ["relative", "absolute"])
def test_each_problem_is_counted_once_however_often_the_file_is_drawn(
    tmp_path, monkeypatch, spelling
):
    make_project(tmp_path, "apple", "berry")
    (tmp_path / "constitution/other.yaml").write_text(LAW)
    (tmp_path / "principles/apple.yaml").write_text("title: a: b\n")
    (tmp_path / "principles/berry.yaml").write_text("title: A\ncritque: x\n")
    monkeypatch.chdir(tmp_path)
    base = tmp_path if spelling == "absolute" else Path()
    found = check([base / "principles", base / "constitution"])
    lines = [str(problem).replace(f"{tmp_path}/", "") for problem in found.problems]
    assert [line.partition(": ")[0] for line in lines] == [
        "principles/apple.yaml:1:9",
        "principles/berry.yaml:2:1",
    ]
    assert len(found.files) == 4


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("titel: T\ncritque: x\nrevize: y\n", PRINCIPLE),
        ("titel: T\nrevize: {principles: [a]}\njudge: {principles: [a]}\n", CONSTITUTION),
        ("title: T\nrevise: {principles: [a]}\n", CONSTITUTION),
        ("title: T\nrevise: Write it again.\n", PRINCIPLE),
        ("constitution: law\npromts: {red_team: a}\n", RUN),
        ("constitution: law\nprompts: {}\nrevise: {rounds: 2}\njudge: {principles: 1}\n", RUN),
        ("out: o\ndata: {}\nsft: {}\nppo: {}\n", TRAINING),
    ],
)
def test_a_file_is_known_by_its_keys_even_if_they_are_misspelt(tmp_path, text, kind):
    (tmp_path / "file.yaml").write_text(text)
    assert find_files([tmp_path / "file.yaml"]).by_kind[kind] == [tmp_path / "file.yaml"]


def test_a_file_of_no_kind_is_a_problem_if_it_is_named_and_skipped_in_a_folder(tmp_path):
    for name, text in {
        "odd.yaml": "compute: gpu\n",
        "list.yaml": "- a\n",
        "notes.txt": "x",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "bad.yaml").write_text("a: b: c\n")
    (tmp_path / "runs/r").mkdir(parents=True)
    (tmp_path / "runs/r/constitution.lock.yaml").write_text("hash: x\n")
    (tmp_path / "runs/r/config.yaml").write_text("constitution: law\nprompts: {}\n")
    in_folder = find_files([tmp_path])
    assert [path.name for path in in_folder.skipped] == ["list.yaml", "odd.yaml"]
    assert [problem.where for problem in in_folder.problems] == [f"{tmp_path}/bad.yaml:1:5"]
    assert not any(in_folder.by_kind.values())
    named = find_files([tmp_path / "odd.yaml", tmp_path / "notes.txt", tmp_path / "none.yaml"])
    said = [str(problem).replace(f"{tmp_path}/", "") for problem in named.problems]
    assert said[0].startswith(
        "odd.yaml: is not a file that cai knows: a principle has keys such as critique, revise, compare; a"
    )
    assert said[1:] == [
        "notes.txt: is not a YAML file (.yaml, .yml) or a constitution in Markdown (.md)",
        "none.yaml: there is no such file or folder",
    ]
