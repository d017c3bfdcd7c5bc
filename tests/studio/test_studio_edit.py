"""A person writes a better answer than a revision: the row is what supervised fine-tuning reads."""

import json

import pytest
from rater import ORIGIN, Rater
from studio_runs import make_run, prompt, revision

from cai.data.demonstrations import read_demonstrations

PATH = "/run/a/revise/edit"


@pytest.fixture
def folder(tmp_path):
    return make_run(tmp_path / "a", revisions=[revision(), revision(1, final="<b>You are fine.")])


@pytest.fixture
def client(folder):
    return Rater(folder).client


def store(client, answer, rater="ann", name="r0"):
    form = {"answer": answer, "rater": rater}
    return client.post(PATH, params={"id": name}, data=form, headers=ORIGIN)


def rows(folder):
    return [json.loads(line) for line in (folder / "demonstrations.jsonl").read_text().splitlines()]


def test_the_file_is_read_by_supervised_fine_tuning_as_it_is(client, folder):
    assert store(client, "You are kind, friend.\r\nReally.\n").status_code == 200
    store(client, "You are dear to me.", name="r1")
    read = read_demonstrations(folder / "demonstrations.jsonl")
    assert read.counts == {}
    kind = "You are kind, friend.\nReally."
    assert read.rows == [
        (prompt(kind="human"), kind),
        (prompt(kind="human"), "You are dear to me."),
    ]
    assert rows(folder)[0]["principles"] == ["reference/insult"]


def test_the_page_shows_what_was_changed_and_takes_a_second_thought(client, folder):
    page = client.get(PATH, params={"id": "r1"}).text
    assert "&lt;b&gt;You are fine.</textarea>" in page
    page = store(client, "You are fine and dear.", name="r1").text
    assert "<ins>" in page
    assert "<del>" in page
    store(client, "You are great.", name="r1")
    assert [row["completion"] for row in rows(folder)] == ["You are great."]
    store(client, "You are good.", "bo", "r1")
    assert [row["rater"] for row in rows(folder)] == ["ann", "bo"]


@pytest.mark.parametrize(
    ("answer", "rater", "name", "status"),
    [
        (" \n", "ann", "r0", 400),
        ("x", " ", "r0", 400),
        ("x" * 100_001, "ann", "r0", 400),
        ("x", "ann", "no", 404),
    ],
    ids=["empty", "nameless", "long", "unknown"],
)
def test_odd_answers_store_nothing(answer, rater, name, status, client, folder):
    assert store(client, answer, rater, name).status_code == status
    assert not (folder / "demonstrations.jsonl").exists()


def test_only_revisions_are_written_anew_and_from_no_other_page(client, folder):
    assert client.get("/run/a/judge/edit", params={"id": "l0"}).status_code == 404
    form = {"answer": "x", "rater": "ann"}
    answer = client.post(PATH, params={"id": "r0"}, data=form, headers={"origin": "http://evil"})
    assert answer.status_code == 403
    assert not (folder / "demonstrations.jsonl").exists()
