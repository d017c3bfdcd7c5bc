"""Bad YAML ends in one line per problem, with file, line and column."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.config import load_config, load_training
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
        ("a: 1\na: 2\n", "F:2:1: the key 'a' is already used"),
        ("a: b: c\n", "F:1:5: mapping values are not allowed"),
        ("a: 012\n", "F:1:4: 012 would be read as another number"),
        ("a: 1:30\n", "F:1:4: 1:30 would be read as another number"),
        ("a: &x [1]\nb: *x\n", "an alias (*name) is not allowed"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not allowed here"),
        ("", "F:1:1: the file is empty"),
        ("# only a comment\n", "F:1:1: the file is empty"),
        ("a:\n\t- b\n", "indent with spaces"),
        (b"\xff\xfea\x00", "is not UTF-8"),
        ("a: " + "x" * 1_100_000, "the limit is 1,048,576"),
        ("[" * 60 + "]" * 60, "nested too deeply"),
    ],
)
def test_bad_files(tmp_path, text, expected):
    assert any(expected in p for p in problems(tmp_path / "f.yaml", text))


def test_alias_bomb_is_refused_at_once(tmp_path):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{n}: &{n} [{', '.join(['*' + p] * 9)}]\n"
        for p, n in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert any("alias" in p for p in problems(tmp_path / "f.yaml", bomb))


def test_byte_order_mark_and_exponents_are_read(tmp_path):
    (tmp_path / "f.yaml").write_bytes("\ufeffrate: 1e-4\nname: 'no'\n".encode())
    assert load(tmp_path / "f.yaml").value == {"rate": 1e-4, "name": "no"}


CONFIG = "constitution: reference\nprompts: {red_team: a.jsonl, benign: b.jsonl}\n"


def test_all_problems_of_a_run_file_come_at_once_with_hints(tmp_path):
    text = (
        CONFIG
        + "revise:\n  round: 3\nppo:\n  num_updates: 0\n  kl_coef: -1\nsft: {learning_rate: fast}\njudge: {method: logprobs}\n"
    )
    assert problems(tmp_path / "run.yaml", text, load_config) == [
        "F:4:3: unknown key 'round' (did you mean 'rounds'?)",
        "F:6:3: ppo.num_updates must be at least 1, not 0",
        "F:7:3: ppo.kl_coef must be at least 0, not -1",
        "F:8:7: sft.learning_rate must be a number, not 'fast'",
        "F:9:9: judge.method must be one of option_logprobs, critique, sampled_votes, chain_of_thought, not 'logprobs' (did you mean 'option_logprobs'?)",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ppo: 3", "F:3:1: ppo must be a mapping of keys to values, not 3"),
        ("ppo:", "F:3:1: ppo is empty; it must be a mapping of keys to values"),
        ("ppo: [1]", "F:3:1: ppo must be a mapping of keys to values, not a list"),
        ("ppo: {num_updates: many}", "F:3:7: ppo.num_updates must be a whole number, not 'many'"),
        ("ppo: {num_updates: 1.5}", "F:3:7: ppo.num_updates must be a whole number, not 1.5"),
        (
            "ppo: {num_updates: {a: 1}}",
            "F:3:7: ppo.num_updates must be a whole number, not a mapping",
        ),
        ("ppo: {clip_range: .inf}", "F:3:7: ppo.clip_range must be a finite number, not inf"),
        ("ppo: {clip_range: 0}", "F:3:7: ppo.clip_range must be more than 0, not 0"),
        ("reward: {min_margin: 0.5}", "F:3:10: reward.min_margin must be less than 0.5, not 0.5"),
        ("reward: {eval_fraction: 2}", "F:3:10: reward.eval_fraction must be at most 1, not 2"),
        ("reward: {human: a.jsonl}", "F:3:10: reward.human must be a list, not 'a.jsonl'"),
        ("reward: {human: [1]}", "F:3:18: reward.human.0 must be text, not 1"),
        (
            "reward: {source_weights: 2}",
            "F:3:10: reward.source_weights must be a mapping of keys to values, not 2",
        ),
        ("revise: {direct: perhaps}", "F:3:10: revise.direct must be true or false, not 'perhaps'"),
        ("revise: {rows: most}", "F:3:10: revise.rows must be final, all or upto_<n>, not 'most'"),
        (
            "ppo: {method: rloo}",
            "F:3:1: ppo: rloo compares the answers to a prompt: rollout.samples_per_prompt must be at least 2",
        ),
    ],
)
def test_wrong_values_are_explained_in_plain_english(tmp_path, line, expected):
    assert problems(tmp_path / "run.yaml", CONFIG + line + "\n", load_config) == [expected]


def test_what_must_be_given_is_named(tmp_path):
    assert problems(tmp_path / "run.yaml", "prompts: {}\n", load_config) == [
        "F:1:1: constitution is missing",
        "F:1:1: prompts: needs red_team or a set under revised: prompts to revise answers to",
    ]


def test_settings_override_and_are_checked(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    config = load_config(
        path, ["ppo.num_updates=3", "revise.rows=upto_2", "reward.human=[x.jsonl]"]
    )
    assert (config.ppo.num_updates, config.revise.rows, config.reward.human) == (
        3,
        "upto_2",
        ("x.jsonl",),
    )
    with pytest.raises(InputError) as caught:
        load_config(path, ["ppo.update=3", "seed", "nonsense.a=1", "sft.learning_rate=[a"])
    assert str(caught.value).split("\n") == [
        "--set nonsense.a: there is no setting nonsense",
        "--set ppo.update: there is no setting ppo.update (did you mean 'num_updates'?)",
        "--set seed: must look like section.key=value",
        "--set sft.learning_rate: '[a' is not valid YAML; put it in quotes",
    ]


def test_wrong_override_is_reported_at_its_option(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG + "ppo:\n  num_updates: 3\n  rollout: {batch_size: 64}\nsft: 3\n")
    with pytest.raises(InputError) as caught:
        load_config(
            path,
            [
                "ppo.num_updates=x",
                "ppo.rollout.samples_per_prompt=4",
                "reward.human=[1]",
                "sft.epochs=2",
            ],
        )
    assert str(caught.value).replace(str(path), "F").split("\n") == [
        "--set ppo.num_updates: ppo.num_updates must be a whole number, not 'x'",
        "--set reward.human: reward.human.0 must be text, not 1",
        "F:6:1: sft must be a mapping of keys to values, not 3",
    ]
    path.write_text(CONFIG + "ppo:\n  num_updates: 3\n")
    with pytest.raises(InputError) as caught:
        load_config(path, ["ppo.rollout.samples_per_prompt=3"])
    assert str(caught.value) == (
        "--set ppo.rollout.samples_per_prompt: ppo.rollout: "
        "batch_size 64 is not a multiple of samples_per_prompt 3"
    )


def test_a_section_without_keys_can_be_set(tmp_path):
    (tmp_path / "run.yaml").write_text(CONFIG + "ppo:\n")
    assert load_config(tmp_path / "run.yaml", ["ppo.num_updates=2"]).ppo.num_updates == 2


@pytest.mark.parametrize("name", ["quickstart.yaml", "human_feedback.yaml"])
def test_an_example_that_is_not_here_leads_to_init(tmp_path, name):
    read = load_config if name == "quickstart.yaml" else load_training
    with pytest.raises(InputError, match="there is no such file; `cai init` copies the examples"):
        read(tmp_path / "examples" / name)
    with pytest.raises(InputError, match=r"there is no such file$"):
        read(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "iterations: 2\nalgorithms: [dpo]",
            "F:1:1: iterations is 2, but only ppo trains a policy for the next iteration: "
            "add ppo to algorithms",
        ),
        ("algorithms: [grpo]", "F:3:14: algorithms.0 must be one of ppo, dpo, not 'grpo'"),
        ("models: {chat_format: chatml}", "must be one of chat, transcript, plain"),
    ],
)
def test_algorithms_and_limits_that_cannot_be(tmp_path, text, expected):
    found = problems(tmp_path / "run.yaml", CONFIG + text + "\n", load_config)
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize("setting", ["ppo.reward_source=judge", "monitor.judge=true"])
def test_a_training_file_has_no_judge(tmp_path, setting):
    (tmp_path / "train.yaml").write_text("out: out\n")
    with pytest.raises(InputError, match="needs a run file"):
        load_training(tmp_path / "train.yaml", [setting])


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gives_a_document_or_problems(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(text.encode("utf-8", "replace"))
    with contextlib.suppress(InputError):
        assert isinstance(load(path).path, Path)


def test_a_bare_star_is_named(tmp_path):
    assert problems(tmp_path / "f.yaml", "judge:\n  principles: [*]\n") == [
        'F:2:17: a text that begins with * or & must be in quotes, such as "*"'
    ]
