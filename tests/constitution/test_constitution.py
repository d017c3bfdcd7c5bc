"""Principle and constitution files: what loads, what is refused, and what the linter says."""

from pathlib import Path

import pytest

from cai.constitution import load_constitution
from cai.constitution.lint import check
from cai.constitution.lock import read_lock, write_lock
from cai.constitution.schema import fill_slots
from cai.errors import InputError
from cai.files import write_text

GOOD = "title: A\ncritique: Find the fault called {n} in the last reply.\nrevise: Rewrite the reply without {n}.\ncompare: Which reply has less {n}?\n"


@pytest.fixture
def project(tmp_path):
    """A project with the principles harm/a, harm/b and tone/c."""
    for name in ("harm/apple", "harm/banana", "tone/cherry"):
        path = tmp_path / "principles" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GOOD.replace("{n}", name.split("/")[1]))
    (tmp_path / "constitution").mkdir()
    return tmp_path


def constitution(project: Path, text: str, name: str = "main"):
    path = project / "constitution" / f"{name}.yaml"
    path.write_text(text)
    return load_constitution(path)


def refusals(project: Path, text: str):
    with pytest.raises(InputError) as caught:
        constitution(project, text)
    return [str(p).replace(str(project), "") for p in caught.value.problems]


def test_globs_exclusions_and_weights(project):
    loaded = constitution(
        project,
        "title: T\nrevise:\n  principles: [harm/*, tone/*]\n  exclude: [harm/banana]\n  weights: {'harm/*': 2, tone/cherry: 0}\njudge: {principles: ['*/a*']}\n",
    )
    assert loaded.weights["revise"] == {"harm/apple": 2.0, "tone/cherry": 0.0}
    assert loaded.used_for("revise") == {"harm/apple": 2.0}
    assert set(loaded.principles) == {"harm/apple", "tone/cherry"}


def test_include_comes_before_the_file_itself(project):
    (project / "constitution" / "base.yaml").write_text(
        "title: B\nrevise: {principles: [harm/*], weights: {'harm/*': 3}}\n"
    )
    loaded = constitution(
        project,
        "title: T\ninclude: [base]\nrevise: {principles: [tone/*], weights: {harm/apple: 1}}\n",
    )
    assert loaded.weights["revise"] == {"harm/apple": 1.0, "harm/banana": 3.0, "tone/cherry": 1.0}


@pytest.mark.parametrize(
    "name", ["../other/main", "/etc/passwd", "http://x/y", "~/main", "a\\b", "main", "missing"]
)
def test_includes_cannot_leave_the_project_nor_loop(project, name):
    (project.parent / "other").mkdir(exist_ok=True)
    (project.parent / "other" / "main.yaml").write_text("title: outside\n")
    loaded = refusals(project, f"title: T\ninclude: ['{name}']\nrevise: {{principles: [harm/*]}}\n")
    assert len(loaded) == 1 and loaded[0].startswith("/constitution/main.yaml:2:11:")


def test_a_symlink_out_of_the_project_is_not_followed(project):
    outside = project.parent / f"{project.name}-outside.yaml"
    outside.write_text("title: outside\n")
    (project / "constitution" / "link.yaml").symlink_to(outside)
    assert refusals(project, "title: T\ninclude: [link]\n")


def test_unknown_principles_are_reported_at_once(project):
    loaded = refusals(
        project,
        "title: T\nrevise:\n  principles: [harm/aple, nothing/*]\njudge: {principles: [tone/cherry], weights: {tone/chery: 1}}\n",
    )
    assert len(loaded) == 3
    assert any("did you mean 'harm/apple'" in line for line in loaded)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("title: T\ncritque: x\n", "unknown key 'critque' (did you mean 'critique'?)"),
        ("title: 3\ncritique: a\nrevise: b\n", "title must be text, not 3"),
        ("- a\n- b\n", "must be a mapping of keys to values, not a list"),
        ("critique: a\nrevise: b\n", "title is missing"),
        ("title: T\ncritique: only half\n", "has a critique text but no revise text"),
        ("title: T\nnotes: nothing else\n", "has no text for a model"),
        (
            "title: T\ncritique: see {{ promt }}\nrevise: b\n",
            "unknown slot {{ promt }} (did you mean 'prompt'?)",
        ),
        ("title: T\ncompare: " + "word " * 400 + "\n", "characters; keep it below 1,200"),
        ("title: T\ncompare: a\nexamples: [{prompt: p, better: x, worse: x}]\n", "are the same"),
        (
            "title: T\ncompare: a\nexamples: [{prompt: p, bettter: x, worse: y}]\n",
            "did you mean 'better'?",
        ),
    ],
)
def test_principle_lints(project, text, expected):
    (project / "principles" / "harm" / "bad.yaml").write_text(text)
    loaded = check([project / "principles"]).problems
    assert any(expected in str(p) and "bad.yaml:" in str(p) for p in loaded), list(map(str, loaded))


def test_near_duplicates_are_found_and_others_are_not(project):
    assert check([project / "principles"]).problems == []
    copy = (
        (project / "principles/harm/apple.yaml")
        .read_text()
        .replace("Find the fault", "Find  the FAULT")
    )
    (project / "principles/tone/copy.yaml").write_text(copy)
    assert any("almost the same" in str(p) for p in check([project / "principles"]).problems)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "title: T\nrevise: {principles: [tone/only]}\n",
            "tone/only is used to revise but has no critique and no revise text",
        ),
        (
            "title: T\njudge: {principles: [harm/*], weights: {'harm/*': 0}}\n",
            "all weights are zero",
        ),
        ("title: T\n", "uses no principle"),
        ("title: T\njudge: {principles: [harm/*], weights: {'harm/*': .nan}}\n", "judge.weights"),
        ("title: T\njudge: {principles: [harm/*], weights: {'harm/*': -1}}\n", "judge.weights"),
    ],
)
def test_constitution_lints(project, text, expected):
    (project / "principles/tone/only.yaml").write_text("title: T\ncompare: Which is nicer?\n")
    (project / "constitution/main.yaml").write_text(text)
    assert any(expected in str(p) for p in check([project / "constitution"]).problems)


def test_the_hash_is_of_what_models_read(project):
    text = "title: T\nrevise: {principles: [harm/*]}\n"
    before = constitution(project, text)
    path = project / "principles/harm/apple.yaml"
    path.write_text(
        "# a comment\n" + path.read_text().replace("title: A", "title: Other") + "tags: [x]\n"
    )
    assert constitution(project, text).hash == before.hash
    path.write_text(path.read_text().replace("Find", "Seek"))
    assert constitution(project, text).hash != before.hash


def test_lock_round_trip(project, tmp_path):
    loaded = constitution(
        project, "title: T\nrevise: {principles: [harm/*]}\njudge: {principles: ['*/*']}\n"
    )
    write_lock(loaded, tmp_path / "lock.yaml")
    assert read_lock(tmp_path / "lock.yaml") == loaded


def test_slots_are_filled_in_one_pass_and_other_braces_stay():
    text = "Look at {{ prompt }} and {{ other }}, {}, {{7*7}}, {% if %} and %s"
    assert fill_slots(text, {"prompt": "{{ prompt }}"}) == text


def test_prose(tmp_path):
    path = tmp_path / "letter.md"
    path.write_text(
        "# Title\nintro\n## Be kind {#kind}\nAlways be\nkind.\n## Second one\nText {{7*7}}.\n"
    )
    loaded = load_constitution(path)
    assert list(loaded.principles) == ["kind", "second-one"]
    assert "Always be kind." in (loaded.principles["kind"].critique or "") and "{{7*7}}" in (
        loaded.principles["second-one"].compare or ""
    )
    path.write_text("# T\n## A {#x}\na\n## B {#x}\nb\n## Empty\n")
    with pytest.raises(InputError) as caught:
        load_constitution(path)
    assert len(caught.value.problems) == 2


def test_what_ships_is_clean_and_as_large_as_promised(root):
    assert check([root / "principles", root / "constitution"]).problems == []
    harmless = load_constitution("harmless")
    assert len(harmless.used_for("revise")) >= 16 and len(harmless.used_for("judge")) >= 16
    for name in ("helpful-honest-harmless", "general", "letter", "reference"):
        assert load_constitution(name).principles
    assert len(load_constitution("reference").used_for("revise")) == 16


def test_unknown_name_lists_what_there_is():
    with pytest.raises(InputError, match="did you mean 'harmless'"):
        load_constitution("harmles")


def test_a_principle_that_is_not_selected_is_not_called_unknown(tmp_path):
    write_text(tmp_path / "principles/a/one.yaml", "title: One\ncompare: Which is one?\n")
    write_text(tmp_path / "principles/a/two.yaml", "title: Two\ncompare: Which is two?\n")
    path = tmp_path / "constitution/c.yaml"
    write_text(path, "title: T\njudge: {principles: [a/one], weights: {a/two: 2}}\n")
    (problem,) = check([path]).problems
    assert problem.message == "'a/two' is not selected here; name it under principles: first"
    write_text(path, "title: T\njudge: {principles: a/one}\n")
    (problem,) = check([path]).problems
    assert problem.message == "judge.principles must be a list, not 'a/one'"
