"""The index: incremental, rebuilt when it must be, and found by words of any script."""

import json
import os
import sqlite3

import pytest
from studio_runs import LABELS, append, judgment, label, make_run, revision, sample

from cai.files import write_records
from cai.studio import index as indexing
from cai.studio.library import Library
from cai.studio.query import Filters, match_phrase
from cai.studio.rows import is_flip


@pytest.fixture
def run(tmp_path):
    run = Library([make_run(tmp_path / "a")]).runs["a"]
    run.refresh()
    return run


def found(run, stage="judge", **filters):
    with run.query(stage) as (_, query):
        rows = query.page(Filters(**filters), 1)
        assert query.count(Filters(**filters)) == len(rows)
        return [row["id"] for row in rows]


def records_of(run, stage="judge"):
    return run.folder / stage / "records.jsonl"


def test_every_stage_with_records_is_indexed(run):
    assert run.counts() == {"prompts": 3, "sample": 2, "revise": 1, "compare": 5, "judge": 5}
    assert found(run) == ["l0", "l1", "l2", "l3", "l4"]


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"status": "unscored"}, ["l2"]),
        ({"marks": ("unusable",)}, ["l2"]),
        ({"marks": ("near_tie",)}, ["l1", "l3"]),
        ({"marks": ("order_flip",)}, ["l3"]),
        ({"marks": ("near_tie", "order_flip")}, ["l3"]),
        ({"principle": "reference/threat"}, ["l4"]),
        ({"source": "human"}, []),
        ({"set": "red_team", "text": "worse"}, ["l4"]),
        ({"text": "maybe"}, ["l2"]),
        ({"text": '"prompt 3"'}, ["l3"]),
        ({"text": '"kind words"'}, ["l0", "l1", "l2", "l3", "l4"]),
        ({"text": '"words kind"'}, []),
        ({"text": "l4"}, ["l4"]),
    ],
)
def test_filters_and_search(filters, ids, run):
    assert found(run, **filters) == ids


def test_held_out_prompts_and_changed_revisions(run):
    assert len(found(run, "prompts", marks=("held_out",))) == 1
    assert found(run, "revise", marks=("changed",)) == ["r0"]
    assert found(run, "sample", status="failed", text="server down") == ["s1"]


def test_where_the_judge_and_people_disagree(tmp_path):
    human = tmp_path / "people.jsonl"
    rows = [("Prompt 0", "Rude words.", "Kind words."), ("Prompt 4", "Rude words.", "Kind words.")]
    human.write_text(
        "".join(
            json.dumps(dict(zip(("prompt", "chosen", "rejected"), row, strict=True))) + "\n"
            for row in rows
        )
    )
    folder = make_run(tmp_path / "a", reward={"human": [str(human)]})
    run = Library([folder]).runs["a"]
    run.refresh()
    assert found(run, marks=("disagree",)) == ["l0"]  # l4 prefers the second answer as people do


def test_only_new_lines_are_read(run, monkeypatch):
    read = []
    original = indexing.read_row
    monkeypatch.setattr(indexing, "read_row", lambda *a: read.append(a) or original(*a))
    append(records_of(run), label(9), label(10, 0.5))
    run.refresh()
    assert len(read) == 2
    assert found(run)[-2:] == ["l9", "l10"]
    run.refresh()
    assert len(read) == 2


def test_half_a_line_waits_for_its_end(run):
    path = records_of(run)
    whole = label(9).model_dump_json() + "\n"
    with path.open("a") as file:
        file.write(whole[:40])
        file.flush()
        run.refresh()
        assert len(found(run)) == 5
        file.write(whole[40:])
    run.refresh()
    assert found(run)[-1] == "l9"
    with run.query("judge") as (_, query):
        assert query.damaged() == (0, [])


@pytest.mark.parametrize("grown", [False, True])
def test_a_replaced_file_is_indexed_anew(grown, run):
    labels = [label(n, 0.7) for n in range(20, 40 if grown else 22)]
    write_records(records_of(run), labels)
    run.refresh()
    assert found(run) == [one.id for one in labels]
    assert found(run, text="maybe") == []


def test_a_file_that_is_overwritten_in_place_is_indexed_anew(run):
    path = records_of(run)
    text = "".join(label(n, 0.7).model_dump_json() + "\n" for n in range(100, 140))
    with path.open("r+") as file:  # the same inode
        file.write(text)
    run.refresh()
    assert "l100" in found(run)
    assert "l0" not in found(run)


def test_a_stage_that_is_gone_has_no_index(run):
    records_of(run).unlink()
    run.refresh()
    assert "judge" not in run.counts()
    with pytest.raises(KeyError), run.query("judge"):
        pass


@pytest.mark.parametrize("damage", [b"", b"not a database at all, but long enough" * 40, "pages"])
def test_a_damaged_index_is_built_anew(damage, run):
    index = run.stages()["judge"]
    for suffix in ("-wal", "-shm"):
        index.path.with_name(index.path.name + suffix).unlink(missing_ok=True)
    content = index.path.read_bytes()
    index.path.write_bytes(
        content[:4096] + b"\xff" * (len(content) - 4096) if damage == "pages" else damage
    )
    run.refresh()
    append(records_of(run), label(9))
    run.refresh()
    assert len(found(run)) == 6


def test_an_index_of_another_version_is_built_anew(run, monkeypatch):
    monkeypatch.setattr(indexing, "VERSION", 999)
    run.refresh()
    assert len(found(run)) == 5


def test_an_index_goes_on_where_it_was_stopped(run):
    index = run.stages()["judge"]
    index.discard()
    assert index.refresh(max_lines=2) == 2
    assert found(run) == ["l0", "l1"]
    assert 0 < index.progress()[0] < index.progress()[1]
    assert index.refresh() == 3
    assert index.progress()[0] == index.progress()[1]


def test_two_studios_index_a_run_once(run):
    other = Library([run.folder]).runs["a"]
    append(records_of(run), label(9))
    assert [run.stages()["judge"].refresh(), other.stages()["judge"].refresh()] == [1, 0]
    assert len(found(other)) == 6


DAMAGED = [
    b"",
    b"   ",
    b"null",
    b"[]",
    b"{",
    b'{"id": 1}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"id": "x", "comparison": null, "source": "ai", "p_first": NaN}',
    label(1).model_dump_json().replace('"ok"', '"fine"').encode(),
    sample().model_dump_json().encode(),
]


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_lines_that_are_no_records_are_counted_with_the_reason(line, run):
    with records_of(run).open("ab") as file:
        file.write(line + b"\n")
    append(records_of(run), label(9))
    run.refresh()
    assert found(run)[-1] == "l9"
    with run.query("judge") as (_, query):
        count, reasons = query.damaged()
    assert count == len(reasons) == (1 if line.strip() else 0)
    assert all(number == 6 and reason for number, reason in reasons)


def test_a_line_without_end_is_not_read_into_memory(run, monkeypatch):
    monkeypatch.setattr(indexing, "MAX_LINE", 1_000_000)
    with records_of(run).open("ab") as file:
        file.write(b"x" * 3_500_000 + b"\n")
    append(records_of(run), label(9))
    run.refresh()
    with run.query("judge") as (_, query):
        assert query.damaged()[0] == 1
    assert found(run)[-1] == "l9"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("蜂はどうやって飛ぶのか", "飛ぶ"),
        ("如何制作蜂蜜蛋糕", "蜂蜜"),
        ("Wie fliegen Bienen über Äpfel", "apfel"),
        ("كيف تطير النحل", "تطير"),
        ("null\0byte", "byte"),
    ],
)
def test_search_in_any_script(text, word, tmp_path):
    run = Library([make_run(tmp_path / "a", revisions=[revision(), revision(1, draft=text)])]).runs[
        "a"
    ]
    run.refresh()
    assert found(run, "revise", text=word) == ["r1"]


@pytest.mark.parametrize(
    "text",
    [
        '"',
        '""',
        "a AND",
        "NOT",
        "a OR b NEAR(",
        "text:words",
        "*",
        "^kind",
        "(",
        "a - b",
        "'; DROP TABLE records; --",
        "\0",
        "{}",
        "+",
    ],
)
def test_nothing_in_a_search_is_an_operator(text, run):
    with run.query("judge") as (_, query):
        assert query.count(Filters(text=text)) <= 5
        assert query.count(Filters()) == 5


def test_the_last_word_may_be_a_beginning():
    assert match_phrase("smash the ca") == '"smash" "the" "ca"*'
    assert match_phrase('"smash the" ') == '"smash the"'


def test_a_flip_is_no_near_tie():
    assert is_flip(judgment(0.55, evidence={"p_A_order_1": 0.9, "p_A_order_2": 0.8}))
    assert is_flip(judgment(0.5, evidence={"share_order_1": 0.9, "share_order_2": 0.2}))
    assert not is_flip(judgment(0.5, evidence={"p_A_order_1": 0.52, "p_A_order_2": 0.53}))
    assert not is_flip(judgment(0.9, evidence={"p_A_order_1": 0.9, "p_A_order_2": 0.1}))
    assert not is_flip(judgment(0.9))


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([("one", 0.9), ("two", 0.2)], True),
        ([("one", 0.9), ("two", 0.8)], False),
        ([("one", 0.9), ("two", 0.45)], False),  # a near tie contradicts nobody
        ([("one", 0.9), ("two", None)], False),
    ],
)
def test_judges_differ_where_they_clearly_prefer_different_answers(verdicts, expected, tmp_path):
    judgments = [judgment(p, judge=name) for name, p in verdicts]
    other = judgment(0.1, principle="reference/threat", judge="one")
    folder = make_run(tmp_path / "a", [label(0, 0.6, *judgments, other)])
    run = Library([folder]).runs["a"]
    run.refresh()
    assert found(run, marks=("judges_differ",)) == (["l0"] if expected else [])


def test_links_out_of_the_run_are_not_followed(tmp_path):
    outside = tmp_path / "secret.jsonl"
    write_records(outside, LABELS)
    folder = make_run(tmp_path / "a")
    (folder / "judge/records.jsonl").unlink()
    (folder / "judge/records.jsonl").symlink_to(outside)
    run = Library([folder]).runs["a"]
    run.refresh()
    assert "judge" not in run.stages()


def test_a_pipe_in_place_of_records_is_not_opened(tmp_path):
    folder = make_run(tmp_path / "a")
    (folder / "judge/records.jsonl").unlink()
    os.mkfifo(folder / "judge/records.jsonl")
    assert "judge" not in Library([folder]).runs["a"].stages()


@pytest.mark.parametrize("content", ["precious", ""])  # SQLite takes an empty file for a new index
@pytest.mark.parametrize("name", ["judge.sqlite", "judge.sqlite-wal", "judge.sqlite-journal"])
def test_links_among_the_indexes_are_removed(name, content, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text(content)
    folder = make_run(tmp_path / "a")
    (folder / ".studio").mkdir()
    (folder / ".studio" / name).symlink_to(victim)
    run = Library([folder]).runs["a"]
    run.refresh()
    assert victim.read_text() == content
    assert len(found(run)) == 5


def test_an_index_folder_that_leads_elsewhere_is_not_used(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = make_run(tmp_path / "a")
    (folder / ".studio").symlink_to(elsewhere)
    run = Library([folder]).runs["a"]
    run.refresh()
    assert list(elsewhere.iterdir()) == []
    assert len(found(run)) == 5


def test_the_index_of_somebody_else_is_not_believed(run, tmp_path):
    """A copied run has other files, so what its index says of them is not used."""
    index = run.stages()["judge"]
    with sqlite3.connect(index.path) as db:
        db.execute("UPDATE records SET id = 'forged', prompt = 'forged'")
    copy = tmp_path / "copy/a"
    copy.parent.mkdir()
    import shutil

    shutil.copytree(run.folder, copy)
    run = Library([copy]).runs["a"]
    run.refresh()
    assert found(run)[0] == "l0"
