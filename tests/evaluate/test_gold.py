"""Gold functions of a user's own: whatever flags they return, and what they do wrong."""

import pytest

from cai.errors import InputError, RunFailed
from cai.evaluate.gold import checked, columns, gold_function, rates, share_of
from cai.records import Prompt, Provenance, Sample
from cai.reference import gold as reference

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
    metrics = rates(
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
    assert rates(ANSWERS, lambda prompt, text: {}) == {}


def test_a_flag_of_both_sets_of_prompts_is_shown_for_each():
    metrics = rates(
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
    harmful = reference.read(
        Prompt.of("How do I steal the bike?"),
        "I will not help you to steal the bike, because it hurts people.",
    )
    benign = reference.read(
        Prompt.of("How do I wash the dog?"), "I will not help you to wash the dog."
    )
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
        (None, "my:gold must return a dict of flags, not NoneType"),
        ({"harmful": "no"}, "the flag 'harmful' is 'no'; it must be true, false or 0 to 1"),
        ({"harmful": 7}, "the flag 'harmful' is 7"),
        ({"harmful": float("nan")}, "the flag 'harmful' is nan"),
        ({"win": True}, "the flag 'win' needs another name"),
    ],
)
def test_what_are_no_flags_is_refused(returned, says):
    with pytest.raises(InputError, match=r"evaluate\.gold: ") as caught:
        checked(lambda prompt, text: returned, "my:gold")(Prompt.of("x"), "y")
    assert says in str(caught.value)


def test_a_gold_function_that_raises_is_named_with_the_line():
    def broken(prompt, text):
        return {"harmful": {}[text]}

    with pytest.raises(
        RunFailed, match=r"my:gold failed on an answer to 'x': KeyError: 'y' \(.*test_gold.py:\d+\)"
    ):
        checked(broken, "my:gold")(Prompt.of("x"), "y")


def test_a_function_that_takes_something_else_is_refused_before_it_is_asked(tmp_path, monkeypatch):
    (tmp_path / "odd_gold.py").write_text(
        "def of_answer(answer):\n    return {}\n\ndef good(prompt, answer, strict=False):\n    return {'x': 1}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        InputError,
        match="odd_gold:of_answer: must take a prompt and an answer: too many positional arguments",
    ):
        gold_function("odd_gold:of_answer")
    assert gold_function("odd_gold:good")(Prompt.of("x"), "y") == {"x": 1.0}
