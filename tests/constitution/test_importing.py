"""Constitutions of other tools come in byte for byte, are drawn from, and make no double frame."""

import csv
import json
from pathlib import Path

import pytest

from cai.constitution import load_constitution
from cai.constitution.few_shot import LABELS, FewShotExample, read_few_shot_examples
from cai.constitution.importing import read_principles, write_principles
from cai.errors import InputError
from cai.feedback.requests import comparison_request, revision_examples
from cai.records import Comparison, Prompt

REAL = (
    Path(__file__).parents[3] / "shared/material/data/hf-constitutions-constitution_anthropic.json"
)
ODD = 'Say what is  wrong, e.g. "precedings": {{ not a slot }}, {}, ünïcode, a\nsecond line: yes.'
PAPER = {
    "harmful_0": {"prompt": [ODD], "edit_request": ["Write it anew."]},
    "Harmful 1": {"prompt": ["Find harm."], "edit_request": ["Take it away."]},
}
QUESTIONS = ["Which of these is kinder? Options:", "Which of these is wiser? Options:"]
SHAPES = {
    "paper.json": (
        PAPER,
        [
            ("harmful-0", {"critique": ODD, "revise": "Write it anew."}),
            ("harmful-1", {"critique": "Find harm.", "revise": "Take it away."}),
        ],
    ),
    "questions.json": (
        QUESTIONS,
        [("01", {"compare": QUESTIONS[0]}), ("02", {"compare": QUESTIONS[1]})],
    ),
    "swarm.json": (
        {"constitutions": [{"critic": ODD, "revision": "Again."}], "system_chat": []},
        [("01", {"critique": ODD, "revise": "Again."})],
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_import_keeps_principles_byte_for_byte(tmp_path, name):
    value, expected = SHAPES[name]
    (tmp_path / name).write_text(json.dumps(value), encoding="utf-8")
    principles = read_principles(tmp_path / name)
    assert [(b.name, b.texts) for b in principles] == expected
    constitution = load_constitution(write_principles(principles, "imported", tmp_path, "Imported"))
    for imported in principles:
        principle = constitution.principles[f"imported/{imported.name}"]
        assert {
            use: text
            for use in ("critique", "revise", "compare")
            if (text := getattr(principle, use))
        } == imported.texts
    with pytest.raises(InputError, match="already exists"):
        write_principles(principles, "imported", tmp_path, "Imported")


def test_import_reads_weights_from_a_table(tmp_path):
    path = tmp_path / "mine.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [
                ["name", "critique", "revision", "question", "weight"],
                ["kind", "Find it.", "Mend it.", "Which is kinder?", "3"],
                ["wise", "", "", "Which is wiser?", ""],
            ]
        )
    constitution = load_constitution(
        write_principles(read_principles(path), "mine", tmp_path, "Mine")
    )
    assert constitution.used_for("revise") == {"mine/kind": 3.0} and constitution.used_for(
        "judge"
    ) == {"mine/kind": 3.0, "mine/wise": 1.0}


def test_import_reports_all_problems_at_once(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({"a": {"prompt": " blank"}, "b": {"text": "?"}, "c": 3}))
    with pytest.raises(InputError) as error:
        read_principles(path)
    message = str(error.value)
    assert (
        "a: critique begins or ends with a blank" in message.replace(f"{path}: ", "")
        and message.count("has no text of a principle") == 2
    )


def test_imported_questions_lose_their_options_frame(tmp_path):
    (tmp_path / "q.json").write_text(json.dumps(QUESTIONS))
    constitution = load_constitution(
        write_principles(read_principles(tmp_path / "q.json"), "q", tmp_path, "Q")
    )
    shown = comparison_request(
        Comparison.of(Prompt.of("p"), "one", "other"),
        constitution.principles["q/01"],
        delimiters=True,
    ).content
    assert "Which of these is kinder?\nOptions:\n" in shown and shown.count("Options:") == 1


TURNS = ["Ask it?", ODD, "Find harm.", "There is harm.", "Take it away.", "No."]
CHAT = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(TURNS)]
TEXT = "\n\n".join(f"{label}: {text}" for label, text in zip(LABELS, TURNS, strict=True))
OTHER = TEXT.replace("Find harm.", "Find rudeness.")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("swarm.json", json.dumps({"constitutions": [], "system_chat": [CHAT]})),
        ("chats.json", json.dumps([CHAT])),
        ("paper.json", json.dumps({"first": [TEXT]})),
        ("texts.json", json.dumps([TEXT])),
        ("paper.txt", TEXT + "\n"),
    ],
)
def test_import_keeps_few_shot_examples_byte_for_byte(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "two.txt").write_text(f"{TEXT}\n\n{OTHER}")
    assert (
        read_few_shot_examples(tmp_path / name) == [FewShotExample(*TURNS)]
        and len(read_few_shot_examples(tmp_path / "two.txt")) == 2
    )
    (tmp_path / "p.json").write_text(json.dumps(PAPER))
    assert read_few_shot_examples(tmp_path / "p.json") == []
    constitution = load_constitution(
        write_principles(
            read_principles(tmp_path / "p.json"),
            "b",
            tmp_path,
            "B",
            read_few_shot_examples(tmp_path / "two.txt"),
        )
    )
    assert [shot.principle for shot in constitution.few_shot] == [
        "b/harmful-1",
        "b/shot-02",
    ] and constitution.few_shot[0].answer == ODD
    assert set(constitution.used_for("revise")) == {"b/harmful-0", "b/harmful-1"}, (
        "what only explains an example is not drawn"
    )
    contents = [m.content for m in revision_examples(constitution, direct=False)]
    assert all(
        content.startswith(text) for content, text in zip(contents, TURNS, strict=False)
    ) and contents[8].startswith("Find rudeness.")
    assert contents[:6:2][0] == TURNS[0] and contents[1:6:2] == TURNS[1::2], (
        "only the requests have a frame of ours"
    )


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([CHAT[:5]]),
        json.dumps([TEXT.replace("Critique:", "Criticism:")]),
        json.dumps([[*CHAT[:5], CHAT[5] | {"content": ""}]]),
    ],
)
def test_import_refuses_incomplete_few_shot_examples(tmp_path, content):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match=r"invalid few-shot example|a text that is empty"):
        read_few_shot_examples(tmp_path / "s.json")


@pytest.mark.skipif(not REAL.is_file(), reason="the folder of real data is not here")
def test_import_of_published_few_shot_examples(tmp_path):
    constitution = load_constitution(
        write_principles(
            read_principles(REAL), "swarm", tmp_path, "Imported", read_few_shot_examples(REAL)
        )
    )
    chats = json.loads(REAL.read_text())["system_chat"]
    turns = [turn["content"] for chat in chats for turn in chat]
    contents = [m.content for m in revision_examples(constitution, direct=False)]
    assert len(contents) == len(turns) == 24 and all(
        content.startswith(text) for content, text in zip(contents, turns, strict=True)
    )
    assert [text for i, text in enumerate(contents) if i % 6 not in (2, 4)] == [
        text for i, text in enumerate(turns) if i % 6 not in (2, 4)
    ]
    assert all(shot.principle in constitution.used_for("revise") for shot in constitution.few_shot)


@pytest.mark.skipif(not REAL.is_file(), reason="the folder of real data is not here")
def test_import_of_a_published_constitution(tmp_path):
    principles = read_principles(REAL)
    constitution = load_constitution(write_principles(principles, "swarm", tmp_path, "Imported"))
    entries = json.loads(REAL.read_text())["constitutions"]
    assert len(constitution.used_for("revise")) == len(entries) == 16
    for imported, entry in zip(principles, entries, strict=True):
        principle = constitution.principles[f"swarm/{imported.name}"]
        assert (principle.critique, principle.revise) == (entry["critic"], entry["revision"])


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (
            {"kind": {"question": "Which?", "weight": "heavy"}},
            "kind: weight must be a number, not 'heavy'",
        ),
        (
            {"kind": {"question": "Which?", "weight": -1}},
            "kind: weight must be a finite number of at least 0, not -1.0",
        ),
        (
            {"kind": "Which?", "Kind!": "Who?"},
            "Kind!: a second principle has the name 'kind'; rename one of them",
        ),
    ],
)
def test_import_refuses_bad_weights_and_repeated_names(tmp_path, entries, expected):
    path = tmp_path / "principles.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(InputError) as caught:
        read_principles(path)
    assert str(caught.value) == f"{path}: {expected}"
