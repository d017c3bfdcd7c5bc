"""Rows that look like prompts or preferences and are not usable as such."""

import json

import pytest

from cai.data.cases import read_cases
from cai.data.demonstrations import read_demonstrations
from cai.data.preferences import read_preferences
from cai.data.prompts import read_prompts
from cai.data.transcripts import parse_transcript
from cai.errors import InputError

HI = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("  ", "the prompt is empty"),
        ([{"role": "user", "content": " "}], "the last user turn is empty"),
        ([HI, {"role": "assistant", "content": "Hello"}], "does not end with a user turn"),
        ([], "does not end with a user turn"),
        (7, "not a number"),
    ],
)
def test_a_prompt_without_words_is_named(tmp_path, value, says):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "fine"}) + "\n" + json.dumps({"prompt": value}) + "\n")
    with pytest.raises(InputError) as caught:
        read_prompts(path, "benign")
    assert [p.where for p in caught.value.problems] == [f"{path}:2:1"] and says in str(caught.value)


def test_a_transcript_before_its_answer_is_a_conversation(tmp_path):
    rows = ["\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", "Human: a\n\nAssistant: b"]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": row}) + "\n" for row in rows))
    found = [[(m.role, m.content) for m in p.messages] for p in read_prompts(path, "red_team")]
    assert found == [[("user", "a"), ("assistant", "b"), ("user", "c")], [("user", rows[1])]]


@pytest.mark.parametrize(
    ("transcript", "says"),
    [
        ("\n\nHuman: \n\nAssistant: yes", "a turn is empty"),
        ("\n\nHuman: a\n\nAssistant: \n\nHuman: b\n\nAssistant: yes", "a turn is empty"),
        ("\n\nHuman: a", "does not end with an assistant turn"),
        ("\n\nHuman: a\n\nHuman: b\n\nAssistant: c", "one speaker has two turns in a row"),
        ("\n\nHuman: a\n\nAssistant: Human: b", "an answer contains the beginning of another turn"),
    ],
)
def test_a_transcript_with_a_hole_is_counted(tmp_path, transcript, says):
    assert parse_transcript(transcript) == says
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"chosen": transcript, "rejected": transcript + "!"}) + "\n")
    read = read_preferences(path)
    assert read.preferences == [] and read.skipped == {says: [f"{path}:1:1"]}


@pytest.mark.parametrize(
    ("read", "bad"),
    [
        (lambda path: read_prompts(path, "red_team"), '{"prompt": " "}'),
        (read_preferences, '{"prompt": "p", "chosen": 3, "rejected": "b"}'),
        (read_demonstrations, '{"prompt": "p", "completion": 3}'),
    ],
)
def test_rows_that_are_wrong_in_different_ways_are_all_named(tmp_path, read, bad):
    good = '{"prompt": "p", "chosen": "a", "rejected": "b", "completion": "a"}'
    (tmp_path / "rows.jsonl").write_text("\n".join([good, bad, "not JSON", bad, "[1]"]) + "\n")
    with pytest.raises(InputError) as caught:
        read(tmp_path / "rows.jsonl")
    assert [problem.where for problem in caught.value.problems] == [
        f"{tmp_path}/rows.jsonl:{line}:1" for line in (2, 3, 4, 5)
    ]


@pytest.mark.parametrize(
    ("row", "column", "turns"),
    [
        ({"system": "be kind", "prompt": "ask"}, "", ["be kind", "ask"]),
        ({"instruction": "ask", "input": "this"}, "#instruction", ["ask\n\nthis"]),
        ({"behavior": "ask", "contextstring": "read"}, "#behavior", ["read\n\nask"]),
    ],
)
def test_all_that_a_row_asks_is_in_its_prompt(tmp_path, row, column, turns):
    """For cases of a suite too, where the column has a usual name."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (prompt,) = read_prompts(f"{path}{column}", "benign")
    assert [turn.content for turn in prompt.messages] == turns
    if "behavior" not in row:
        (case,) = read_cases(path, "benign")
        assert case.prompt == prompt
