"""Answers to imitate, in the shapes they come in."""

import json

import pytest

from cai.data.demonstrations import read_demonstrations
from cai.errors import InputError


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "ask", "completion": " good "},
        {"prompt": [user("ask")], "completion": [said("good")]},
        {"messages": [user("ask"), said("good")]},
        {"instruction": "ask", "input": "", "output": "good"},
        {"instruction": "ask", "context": "", "response": "good", "category": "qa"},
        {"question": "ask", "answer": "good"},
        {"query": "ask", "response": "good"},
        {"input": "ask", "output": "good"},
        {"inputs": "ask", "targets": "good"},
        {"problem": "ask", "solution": "good"},
        {"conversation": [user("ask"), said("good")], "model": "m"},
        {"messages": [user("ask")], "completion": "good"},
        {"conversations": [{"from": "Human", "value": "ask"}, {"from": "gpt", "value": "good"}]},
        {"prompt": "ask", "chosen": "good", "rejected": "bad"},
        {
            "chosen": "\n\nHuman: ask\n\nAssistant: good",
            "rejected": "\n\nHuman: ask\n\nAssistant: bad",
        },
    ],
)
def test_each_shape(tmp_path, row):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    read = read_demonstrations(path)
    assert [(prompt.text, answer) for prompt, answer in read.rows] == [("ask", "good")]
    assert read.skipped == {"duplicate": [f"{path}:2:1"]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "ask", "completion": " "}, "an answer is empty"),
        ({"prompt": " ", "completion": "x"}, "no usable prompt"),
        ({"messages": [user("ask")]}, "does not end with an assistant turn"),
        ({"prompt": "ask", "chosen": "", "rejected": "bad"}, "an answer is empty"),
    ],
)
def test_what_is_left_out_is_counted(tmp_path, row, reason):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert read_demonstrations(path).counts == {reason: 1}


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"instruction": "ask", "input": "this", "output": "good"}, ["ask\n\nthis"]),
        ({"instruction": "ask", "context": "read", "response": "good"}, ["read\n\nask"]),
        ({"prompt": "read: ask", "context": "read", "response": "good"}, ["read: ask"]),
        ({"system": "be kind", "prompt": "ask", "completion": "good"}, ["be kind", "ask"]),
        ({"system_prompt": "be kind", "question": "ask", "answer": "good"}, ["be kind", "ask"]),
        ({"system": "be kind", "messages": [user("ask"), said("good")]}, ["be kind", "ask"]),
        (
            {"messages": [{"role": "developer", "content": "kind"}, user("ask"), said("good")]},
            ["kind", "ask"],
        ),
        ({"system": " ", "prompt": "ask", "completion": "good"}, ["ask"]),
    ],
)
def test_all_that_is_asked_is_in_the_prompt(tmp_path, row, turns):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    [(prompt, answer)] = read_demonstrations(path).rows
    assert ([turn.content for turn in prompt.messages], answer) == (turns, "good")
    assert prompt.messages[0].role == ("user" if len(turns) == 1 else "system")


def test_turns_of_weight_0_are_not_imitated(tmp_path):
    path = tmp_path / "rows.jsonl"
    turns = [user("ask"), said("bad") | {"weight": 0}, user("no"), said("good") | {"weight": 1}]
    path.write_text(json.dumps({"messages": turns}) + "\n")
    read = read_demonstrations(path)
    assert [answer for _, answer in read.rows] == ["good"]
    assert read.counts == {"a turn has weight 0": 1}


def test_what_is_wrong_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x"}\n{"prompt": "ask", "completion": 7}\n')
    with pytest.raises(InputError) as caught:
        read_demonstrations(path)
    assert [p.where for p in caught.value.problems] == [f"{path}:1:1", f"{path}:2:1"]
    assert "columns: text" in str(caught.value) and "not a number" in str(caught.value)


def test_every_assistant_turn_of_a_conversation_is_imitated(tmp_path):
    turns = [user("one"), said("first"), user("two"), said("second")]
    rows = [
        {"messages": turns},
        {"messages": [*turns[:3], said("other")]},
        {"messages": turns},
        {"prompt": [user("three"), said("not this"), user("four")], "completion": "third"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_demonstrations(path)
    found = [(len(prompt.messages), prompt.text, answer) for prompt, answer in read.rows]
    assert found == [
        (1, "one", "first"),
        (3, "two", "second"),
        (3, "two", "other"),
        (3, "four", "third"),
    ]
    assert read.skipped == {"duplicate": [f"{path}:3:1"]}
