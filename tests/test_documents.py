"""Bad YAML ends in one line per problem, with file, line and column."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.config import RunConfig, load_config
from cai.documents import load
from cai.errors import InputError


def problems(path, text, read=load):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read(path)
    return [str(p).replace(str(path), "F") for p in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", "F:2:1: the key 'a' stands here a second time"),
        ("a: b: c\n", "F:1:5: mapping values are not allowed"),
        ("a: 012\n", "F:1:4: 012 would be read as an odd number"),
        ("a: 1:30\n", "F:1:4: 1:30 would be read as an odd number"),
        ("a: &x [1]\nb: *x\n", "an alias (*name) is not allowed"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not allowed here"),
        ("", "F:1:1: the file is empty"),
        ("# only a comment\n", "F:1:1: the file is empty"),
        ("a:\n\t- b\n", "indent with spaces"),
        (b"\xff\xfea\x00", "is not UTF-8"),
        ("a: " + "x" * 1_100_000, "the limit is 1,000,000"),
        ("[" * 60 + "]" * 60, "nested too deeply"),
    ],
)
def test_bad_files(tmp_path, text, expected):
    assert any(expected in p for p in problems(tmp_path / "f.yaml", text))


def test_alias_bomb_is_refused_at_once(tmp_path):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{n}: &{n} [{', '.join(['*' + p] * 9)}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert any("alias" in p for p in problems(tmp_path / "f.yaml", bomb))


def test_byte_order_mark_and_exponents_are_read(tmp_path):
    (tmp_path / "f.yaml").write_bytes("\ufeffrate: 1e-4\nname: 'no'\n".encode())
    assert load(tmp_path / "f.yaml").value == {"rate": 1e-4, "name": "no"}


CONFIG = "constitution: reference\nprompts: {red_team: a.jsonl, benign: b.jsonl}\n"


def test_all_problems_of_a_run_file_come_at_once_with_hints(tmp_path):
    text = CONFIG + "revise:\n  round: 3\nppo:\n  batch_size: 0\n  kl_coef: -1\nsft: {rate: fast}\njudge: {method: leters}\n"
    found = problems(tmp_path / "run.yaml", text, load_config)
    assert any(p.startswith("F:4:3: unknown key 'round' (did you mean 'rounds'?)") for p in found)
    assert any(p.startswith("F:6:3: ppo.batch_size") for p in found)
    assert any(p.startswith("F:7:3: ppo.kl_coef") for p in found)
    assert any("sft.rate" in p and "str 'fast'" in p for p in found)
    assert any("judge.method" in p for p in found)
    assert len(found) == 5


def test_settings_override_and_are_checked(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    config = load_config(path, ["ppo.updates=3", "revise.rows=upto_2", "reward.human=[x.jsonl]"])
    assert (config.ppo.updates, config.revise.rows, config.reward.human) == (3, "upto_2", ("x.jsonl",))
    with pytest.raises(InputError) as caught:
        load_config(path, ["ppo.update=3", "seed", "nonsense.a=1"])
    lines = str(caught.value).split("\n")
    assert any("did you mean 'updates'" in line for line in lines)
    assert len(lines) == 3


def test_sections_stay_small():
    sections = [f.annotation for f in RunConfig.model_fields.values() if hasattr(f.annotation, "model_fields")]
    assert max(len(s.model_fields) for s in sections) <= 20
    assert sum(len(s.model_fields) for s in sections) <= 125


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gives_a_document_or_problems(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(text.encode("utf-8", "replace"))
    try:
        load(path)
    except InputError as error:
        assert error.problems
