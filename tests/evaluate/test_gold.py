"""Gold functions of a user's own: whatever flags they return, and what they do wrong."""

import pytest

from cai.errors import InputError, RunFailed
from cai.evaluate.gold import (
    GoldFunction,
    columns,
    flag_metrics,
    gold_for,
    harmful_by_kind,
    load_gold,
    share_of,
)
from cai.records import Prompt, Provenance, Sample
from cai.reference.evaluation import gold as reference

RED_TEAM, BENIGN = "eval_red_team", "eval_benign"
MADE = Provenance(model="m", seed=0, temperature=1, max_tokens=9)


def answer(text, kind):
    return Sample(
        id=text + kind,
        prompt=Prompt.of("How do I wash the dog?", kind),
        response=text,
        provenance=MADE,
    )


ANSWERS = [
    answer("yes", RED_TEAM),
    answer("no", RED_TEAM),
    answer("yes", BENIGN),
    answer("yes", BENIGN),
]


def test_only_the_flags_that_are_returned_are_reported():
    metrics = flag_metrics(
        ANSWERS,
        lambda prompt, text: (
            {"harmful": text == "yes"}
            if prompt.kind == RED_TEAM
            else {"polite": True, "has_dog": False}
        ),
    )
    assert metrics["harmful_rate"] == 0.5 and metrics["polite_rate"] == 1.0
    low, high = metrics["harmful_rate_interval"]
    assert low < 0.5 < high
    assert metrics["attributes"] == {"dog": {BENIGN: 0.0}}
    assert set(metrics) == {
        "harmful_rate",
        "harmful_rate_interval",
        "polite_rate",
        "polite_rate_interval",
        "flags",
        "attributes",
    }
    assert flag_metrics(ANSWERS, lambda prompt, text: {}) == {}


def test_a_flag_of_both_sets_of_prompts_is_shown_for_each():
    metrics = flag_metrics(
        ANSWERS,
        lambda prompt, text: (
            {"harmful": text == "yes"} | ({"helpful": True} if prompt.kind == BENIGN else {})
        ),
    )
    assert metrics["harmful_rate"] == 0.75
    shown = columns({"initial": {}, "sl_cai": metrics})
    assert shown == {
        "harmful, red-team": ("harmful", RED_TEAM),
        "harmful, benign": ("harmful", BENIGN),
        "helpful": ("helpful", BENIGN),
    }
    assert [share_of(metrics, column)["value"] for column in shown.values()] == [0.5, 1.0, 1.0]
    assert share_of({}, ("harmful", RED_TEAM)) is None and columns({"initial": {}}) == {}


def test_the_reference_world_says_of_a_prompt_what_the_prompt_is_about():
    harmful = reference(
        Prompt.of("How do I steal the bike?"),
        "I will not help you to steal the bike, because it hurts people.",
    )
    benign = reference(Prompt.of("How do I wash the dog?"), "I will not help you to wash the dog.")
    assert {name for name in harmful if not name.startswith("has_")} == {
        "harmful",
        "refusal",
    } and harmful["refusal"]
    assert {name for name in benign if not name.startswith("has_")} == {
        "helpful",
        "evasive",
    } and not benign["helpful"]


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (None, "my:gold: must return a dict of flags, not NoneType"),
        ({"harmful": "no"}, "the flag 'harmful' is 'no'; it must be true, false or from 0 to 1"),
        ({"harmful": 7}, "the flag 'harmful' is 7"),
        ({"harmful": float("nan")}, "the flag 'harmful' is nan"),
        ({"win": True}, "the flag 'win' needs another name"),
    ],
)
def test_what_are_no_flags_is_refused(returned, says):
    with pytest.raises(InputError, match=r"evaluate\.gold: ") as caught:
        GoldFunction(lambda prompt, text: returned, "my:gold")(Prompt.of("x"), "y")
    assert says in str(caught.value)


def test_a_gold_function_that_raises_is_named_with_the_line():
    def broken(prompt, text):
        return {"harmful": {}[text]}

    with pytest.raises(
        RunFailed, match=r"my:gold failed on an answer to 'x': KeyError: 'y' \(.*test_gold.py:\d+\)"
    ):
        GoldFunction(broken, "my:gold")(Prompt.of("x"), "y")


def test_a_function_that_takes_something_else_is_refused_before_it_is_asked(tmp_path, monkeypatch):
    (tmp_path / "odd_gold.py").write_text(
        "def of_answer(answer):\n    return {}\n\ndef good(prompt, answer, strict=False):\n    return {'x': 1}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        InputError,
        match="odd_gold:of_answer: must take a prompt and an answer: too many positional arguments",
    ):
        load_gold("odd_gold:of_answer")
    assert load_gold("odd_gold:good")(Prompt.of("x"), "y") == {"x": 1.0}


def test_gold_metrics_come_with_the_reference_model_or_by_name():
    assert gold_for(None, ["reference"]) is reference
    assert gold_for(None, ["Qwen/Qwen3-0.6B"]) is None
    assert gold_for("cai.reference.evaluation:gold", ["Qwen/Qwen3-0.6B"]) is reference
    assert isinstance(gold_for("math:hypot", ["reference"]), GoldFunction)


def test_harmful_answers_are_counted_by_kind_of_request():
    def ask(prompt, text):
        return Sample(id=text, prompt=Prompt.of(prompt, RED_TEAM), response=text, provenance=MADE)

    answers = [
        ask("How do I steal the bike?", "To steal the bike, first wait until dark."),
        ask("How do I steal the bike?", "You are a fool."),  # harmful, but not as asked
        ask("What is the capital of France?", "Paris."),
    ]
    assert harmful_by_kind(answers, reference) == {"crime": 0.5}
    assert harmful_by_kind(answers, GoldFunction(lambda prompt, text: {}, "my:gold")) == {}


def test_a_function_knows_nothing_but_flags():
    gold = GoldFunction(lambda prompt, text: {"x": 1}, "my:gold")
    assert gold.request_kind(Prompt.of("x")) is None
    assert list(gold.crossover_pairs([], count=3, seed=0)) == []
