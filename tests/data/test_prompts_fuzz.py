"""Rows of prompt and preference files are used, counted, or reported with their place."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cai.data.preferences import read_preferences
from cai.data.prompts import read_prompts
from cai.data.transcripts import parse_transcript
from cai.errors import InputError

SETTINGS = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
text = st.text(max_size=30)
value = st.recursive(
    st.none() | st.booleans() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
turn = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": text | st.none()}
)
row = st.fixed_dictionaries(
    {},
    optional={
        "prompt": text | st.lists(turn, max_size=4) | value,
        "messages": value,
        "chosen": text | value,
        "rejected": text,
    },
)
turns = st.lists(st.tuples(st.sampled_from(["Human", "Assistant"]), text), max_size=5).map(
    lambda ts: "".join(f"\n\n{who}: {said}" for who, said in ts)
)


def read_or_problems(read, path, *args):
    """What is read from a file, or None and the problems that are reported instead."""
    try:
        return read(path, *args), []
    except InputError as error:
        problems = error.problems
    assert problems
    return None, problems


@SETTINGS
@given(st.lists(row, max_size=4))
def test_rows_of_any_shape(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    prompts, problems = read_or_problems(read_prompts, path, "red_team")
    assert all(str(path) in problem.where for problem in problems)
    if not problems:
        assert 0 < len(prompts) <= len(rows)
        assert all(p.text.strip() for p in prompts)
    file, problems = read_or_problems(read_preferences, path)
    assert all(problem.where.startswith(f"{path}:") for problem in problems)
    if not problems:
        assert len(file.preferences) + sum(file.counts.values()) == len(rows)
        comparisons = [p.comparison for p in file.preferences]
        assert all(c.first.strip() and c.first != c.second for c in comparisons)


@SETTINGS
@given(st.binary(max_size=60))
def test_bytes_of_any_kind(tmp_path, data):
    path = tmp_path / "bytes.jsonl"
    path.write_bytes(data)
    _, problems = read_or_problems(read_prompts, path, "benign")
    assert all(str(path) in problem.where for problem in problems)


@SETTINGS
@given(turns | text)
def test_transcripts_split_where_they_say(transcript):
    parsed = parse_transcript(transcript)
    if isinstance(parsed, str):
        return
    messages, answer = parsed
    assert [m.role for m in messages] == [
        "user" if i % 2 == 0 else "assistant" for i in range(len(messages))
    ] and messages[-1].role == "user"
    said = [*(m.content for m in messages), answer]
    at = 0
    for piece in said:  # every turn is a piece of the transcript, in order
        found = transcript.find(piece, at)
        assert found >= at
        at = found + len(piece)
