"""Lone surrogates in files of every shape: they are replaced where they enter, and nothing further on meets them."""

import json
import re
from pathlib import Path

import pytest
from test_formats import SHAPES, write

import cai
from cai.constitution import load_constitution
from cai.constitution.few_shot import LABELS, read_few_shot_examples
from cai.constitution.importing import read_principles, write_principles
from cai.data.demonstrations import read_demonstrations
from cai.data.export import preference_rows, write_rows
from cai.data.preferences import read_preferences
from cai.data.prompts import read_prompts
from cai.errors import InputError

ODD = "\ud83d"


def spoilt(value):
    """The value with a lone surrogate in each of its texts, but not in labels, roles and names of fields."""
    if isinstance(value, dict):
        return {name: spoilt(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [spoilt(inner) for inner in value]
    return (
        re.sub(r"\b(ask|do|good|bad|middle|worst)\b", rf"\1{ODD}", value)
        if isinstance(value, str)
        else value
    )


@pytest.mark.parametrize(("row", "expected"), SHAPES.values(), ids=SHAPES)
def test_preferences(tmp_path, row, expected):
    read = read_preferences(
        write(tmp_path, [spoilt(row) | ({"source": f"people{ODD}"} if "chosen" in row else {})])
    )
    assert [p.p_first for p in read.preferences] == [p for *_, p in expected]
    for preference in read.preferences:
        texts = [
            preference.comparison.prompt.text,
            preference.comparison.first,
            preference.comparison.second,
        ]
        assert all("\ufffd" in text for text in texts) and preference.model_dump_json().encode()
    exported = write_rows(list(preference_rows(read.preferences, {})), tmp_path, "out", "trl")
    assert [p.comparison for p in read_preferences(exported).preferences] == [
        p.comparison for p in read.preferences
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": f"ask{ODD}", "completion": f"good{ODD}"},
        {"instruction": f"ask{ODD}", "output": f"good{ODD}"},
        {
            "messages": [
                {"role": "user", "content": f"ask{ODD}"},
                {"role": "assistant", "content": f"good{ODD}"},
            ]
        },
    ],
)
def test_demonstrations_and_prompts(tmp_path, row):
    path = write(tmp_path, [row])
    assert [(prompt.text, answer) for prompt, answer in read_demonstrations(path).rows] == [
        ("ask\ufffd", "good\ufffd")
    ]
    if "prompt" in row:
        assert read_prompts(path, "benign")[0].text == "ask\ufffd"
    elif "output" in row:
        assert read_prompts(f"{path}#output", "benign")[0].text == "good\ufffd"


def test_names_of_columns_can_be_printed(tmp_path):
    path = write(tmp_path, [{f"text{ODD}": "x"}])
    for read in (read_preferences, read_demonstrations, lambda path: read_prompts(path, "benign")):
        with pytest.raises(InputError) as caught:
            read(path)
        assert "text\ufffd" in str(caught.value) and str(caught.value).encode()


def test_a_parquet_file_with_bytes_that_are_not_utf8_is_named(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    damaged = pa.Array.from_buffers(
        pa.string(),
        1,
        [None, pa.py_buffer(b"\x00\x00\x00\x00\x02\x00\x00\x00"), pa.py_buffer(b"\xed\xa0")],
    )
    parquet.write_table(pa.table({"prompt": damaged}), tmp_path / "p.parquet")
    with pytest.raises(InputError, match=r"p.parquet: .*UTF-8"):
        read_prompts(tmp_path / "p.parquet", "benign")


def test_imported_principles_and_worked_examples(tmp_path):
    (tmp_path / "l.json").write_text(
        json.dumps({"a": {"critique": f"Find it{ODD}", "revise": "Mend it"}})
    )
    talk = [
        {"role": role, "content": f"{label}{ODD}"}
        for role, label in zip(["user", "assistant"] * 3, LABELS, strict=True)
    ]
    (tmp_path / "w.json").write_text(json.dumps([talk]))
    few_shot_turns = read_few_shot_examples(tmp_path / "w.json")
    constitution = load_constitution(
        str(
            write_principles(
                read_principles(tmp_path / "l.json"),
                "mine",
                tmp_path / "to",
                "Mine",
                few_shot_turns,
            )
        )
    )
    assert (
        constitution.principles["mine/a"].critique == "Find it\ufffd"
        and constitution.few_shot[0].answer == "Assistant\ufffd"
    )


def test_prompts_from_python(tmp_path):
    from cai.backends.scripted import ScriptedBackend

    with cai.ResponseCache(Path(tmp_path / "responses.sqlite")) as cache:
        model = cache.cached_model(
            ScriptedBackend(lambda messages, seed: messages[-1].content.encode().decode() + ODD)
        )
        (made,) = cai.sample([cai.Prompt.of([{"role": "user", "content": f"ask{ODD}"}])], model)
    assert made.response == "ask\ufffd\ufffd" and made.prompt.id == cai.Prompt.of("ask\ufffd").id
