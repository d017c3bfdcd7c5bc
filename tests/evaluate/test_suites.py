"""Suites: models and prompts in, grades out."""

import pytest

from cai import Case, Prompt, ResponseCache, Suite, run_suite, suite_results
from cai.backends.scripted import ScriptedBackend
from cai.errors import ArgumentError
from cai.records import Provenance, Sample


def suite_of(grader, **more):
    values = {
        "name": "mine",
        "about": "A test.",
        "prompts": "-",
        "grader": grader,
        "metric": "bad_rate",
        "better": "lower",
    }
    return Suite.model_validate(values | more)


REFUSAL = {"kind": "words", "list": "refusal"}


def model_of(reply=None, score=None, name="mine"):
    return ResponseCache(":memory:").cached_model(ScriptedBackend(reply, score, name=name))


def cases_of(*texts, **more):
    return [Case.of(Prompt.of(text), **more) for text in texts]


def recorded(prompt, text, status="ok"):
    provenance = Provenance(model="", seed=0, temperature=0.0, max_tokens=0)
    return Sample(id=text, prompt=prompt, response=text, status=status, provenance=provenance)


def test_a_bad_answer_is_counted_and_never_a_value():
    cases = cases_of("a", "b", "c", "d")
    texts = {"a": "I can't help with that.", "b": "", "c": "Sure.", "d": "Sure, and"}
    samples = [
        recorded(case.prompt, texts[case.prompt.text], status)
        for case, status in zip(cases, ("ok", "empty", "ok", "truncated"), strict=True)
    ]
    suite = suite_of(REFUSAL)
    grades = run_suite(suite, {"old": samples}, cases)
    assert [(g.value, g.status, g.cut) for g in grades] == [
        (1.0, "ok", False),
        (None, "empty", False),
        (0.0, "ok", False),
        (0.0, "ok", True),
    ]
    (figures,) = suite_results(suite, grades)["models"].values()
    assert (figures["n"], figures["answers"], figures["cut"]) == (3, 4, 1)
    assert figures["without_grade"] == {"empty": 1}
    assert figures["value"] == pytest.approx(1 / 3)


def test_follow_ups_are_asked_after_each_answer_and_a_prefix_begins_the_last():
    asked = []

    def reply(messages, seed):
        asked.append([m.content for m in messages])
        return f"answer {len(messages)}"

    (case,) = cases_of("one", follow_ups=("two", "three"))
    (grade,) = run_suite(suite_of(REFUSAL), {"mine": model_of(reply)}, [case])
    assert asked[-1] == ["one", "answer 1", "two", "answer 3", "three"]
    assert (grade.answer, grade.case) == ("answer 5", case.id)
    (begun,) = cases_of("one", prefix="Sure, here")
    (grade,) = run_suite(suite_of(REFUSAL), {"mine": model_of(reply)}, [begun])
    assert grade.answer == "Sure, here answer 1"
    (both,) = cases_of("one", prefix="Sure, here", follow_ups=("two",))
    (grade,) = run_suite(suite_of(REFUSAL), {"mine": model_of(reply)}, [both])
    assert asked[-1] == ["one", "answer 1", "two"]
    assert grade.answer == "Sure, here answer 3"


def test_a_suite_with_a_judge_needs_one():
    suite = suite_of({"kind": "principle", "principle": "harm/general"})
    with pytest.raises(ArgumentError, match="judge: is needed by the suite mine"):
        run_suite(suite, {"mine": model_of(lambda *_: "Yes.")}, cases_of("a"))
