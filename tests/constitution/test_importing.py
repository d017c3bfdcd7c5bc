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
def test_every_shape_comes_in_as_it_is_and_back(tmp_path, name):
    value, expected = SHAPES[name]
    (tmp_path / name).write_text(json.dumps(value), encoding="utf-8")
    found = read_principles(tmp_path / name)
    assert [(b.name, b.texts) for b in found] == expected
    constitution = load_constitution(write_principles(found, "brought", tmp_path, "Brought"))
    for imported in found:
        principle = constitution.principles[f"brought/{imported.name}"]
        assert {
            use: text
            for use in ("critique", "revise", "compare")
            if (text := getattr(principle, use))
        } == imported.texts
    with pytest.raises(InputError, match="already exists"):
        write_principles(found, "brought", tmp_path, "Brought")


def test_a_table_brings_weights(tmp_path):
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


def test_what_cannot_be_kept_is_said_all_at_once(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({"a": {"prompt": " blank"}, "b": {"text": "?"}, "c": 3}))
    with pytest.raises(InputError) as error:
        read_principles(path)
    said = str(error.value)
    assert (
        "a: critique begins or ends with a blank" in said.replace(f"{path}: ", "")
        and said.count("has no text of a principle") == 2
    )


def test_the_frame_of_the_options_is_not_printed_twice(tmp_path):
    (tmp_path / "q.json").write_text(json.dumps(QUESTIONS))
    constitution = load_constitution(
        write_principles(read_principles(tmp_path / "q.json"), "q", tmp_path, "Q")
    )
    shown = comparison_request(
        Comparison.of(Prompt.of("p"), "one", "other"),
        constitution.principles["q/01"],
        delimiters=True,
    ).content
    assert "Which of these is kinder?\n" in shown and "Options:" not in shown


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
def test_worked_examples_come_in_as_they_are(tmp_path, name, content):
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
    told = [m.content for m in revision_examples(constitution, direct=False)]
    assert all(said.startswith(text) for said, text in zip(told, TURNS, strict=False)) and told[
        8
    ].startswith("Find rudeness.")
    assert told[:6:2][0] == TURNS[0] and told[1:6:2] == TURNS[1::2], (
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
def test_half_an_example_is_said(tmp_path, content):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match=r"invalid few-shot example|a text that is empty"):
        read_few_shot_examples(tmp_path / "s.json")


@pytest.mark.skipif(not REAL.is_file(), reason="the folder of real data is not here")
def test_published_examples_come_in_byte_for_byte(tmp_path):
    constitution = load_constitution(
        write_principles(
            read_principles(REAL), "swarm", tmp_path, "Brought", read_few_shot_examples(REAL)
        )
    )
    chats = json.loads(REAL.read_text())["system_chat"]
    turns = [turn["content"] for chat in chats for turn in chat]
    told = [m.content for m in revision_examples(constitution, direct=False)]
    assert len(told) == len(turns) == 24 and all(
        said.startswith(text) for said, text in zip(told, turns, strict=True)
    )
    assert [text for i, text in enumerate(told) if i % 6 not in (2, 4)] == [
        text for i, text in enumerate(turns) if i % 6 not in (2, 4)
    ]
    assert all(shot.principle in constitution.used_for("revise") for shot in constitution.few_shot)


@pytest.mark.skipif(not REAL.is_file(), reason="the folder of real data is not here")
def test_a_published_constitution_comes_in_byte_for_byte(tmp_path):
    found = read_principles(REAL)
    constitution = load_constitution(write_principles(found, "swarm", tmp_path, "Brought"))
    entries = json.loads(REAL.read_text())["constitutions"]
    assert len(constitution.used_for("revise")) == len(entries) == 16
    for imported, entry in zip(found, entries, strict=True):
        principle = constitution.principles[f"swarm/{imported.name}"]
        assert (principle.critique, principle.revise) == (entry["critic"], entry["revision"])
