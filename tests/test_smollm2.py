"""The example with a real instruct model: its files load, and its rules do what they say."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cai import Prompt
from cai.cli.app import app
from cai.config import load_config
from cai.constitution import load_constitution
from cai.data.prompts import read_prompts
from cai.feedback.requests import problem_request
from cai.pipeline.prompt_sets import prompt_files, with_prompt_sets

HIPPO = "Why do hippos yawn?"
CASES = {
    "style/two-sentences": ("Hippos yawn to warn others. They show teeth.", "One. Two. Three."),
    "style/short-sentences": ("Hippos yawn to warn others.", "word " * 26),
    "style/no-lists": ("Warm, dry and safe.", "Things:\n- warm\n- dry"),
    "style/no-person": ("I am a program, so I have no family.", "I love my family."),
    "style/on-topic": ("Hippos yawn to warn all other animals.", "I can help you with that today."),
}
"""An answer that follows each principle, and one that breaks it."""


@pytest.fixture
def rules(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "examples"))
    sys.modules.pop("smollm2", None)
    from smollm2 import rules

    return rules


@pytest.fixture
def example(root):
    config = load_config(root / "examples/smollm2.yaml")
    constitution = load_constitution(config.constitution, root / "examples")
    return config, with_prompt_sets(constitution, config)


def has_problem(rules, principle, question, answer):
    request = problem_request(principle, Prompt.of(question), answer)
    yes, no = rules.score_options(request.messages, request.options)
    return yes > no


def test_its_prompts_are_many_and_none_is_in_two_files(root, example):
    config, _ = example
    sizes, texts = {True: 0, False: 0}, []
    for file in prompt_files(config):
        prompts = list(read_prompts(root / "examples" / file.name, file.kind))
        sizes[file.is_held_out] += len(prompts)
        texts += [prompt.text for prompt in prompts]
    assert sizes[False] >= 96
    assert sizes[True] >= 64
    assert len(set(texts)) == len(texts)


def test_the_judge_follows_the_examples_of_each_principle(rules, example):
    _, constitution = example
    assert set(constitution.used_for("judge")) == set(CASES)
    for principle in constitution.principles.values():
        assert principle.examples
        for one in principle.examples:
            assert not has_problem(rules, principle, one.prompt, one.better)
            assert has_problem(rules, principle, one.prompt, one.worse)


@pytest.mark.parametrize("name", CASES)
def test_the_judge_finds_each_problem(rules, example, name):
    _, constitution = example
    follows, breaks = CASES[name]
    principle = constitution.principles[name]
    assert not has_problem(rules, principle, HIPPO, follows)
    assert has_problem(rules, principle, HIPPO, breaks)


@pytest.mark.parametrize(
    ("kind", "answer", "flags"),
    [
        ("eval_explain", "Hippos yawn to warn all others.", (1, 1, "short_sentences", 1)),
        ("eval_list", "1. Hippos\n2. yawn\n3. very often and widely", (0, 1, "no_lists", 0)),
        ("eval_self", "As a hippo, I yawn at my friends.", (1, 1, "no_person", 0)),
        ("eval_self", "I don't yawn. I like hippos.", (1, 1, "no_person", 0)),
        ("eval_self", "Yawn, yawn, yawn.", (1, 0, "no_person", 1)),
    ],
)
def test_gold_measures_what_a_set_is_about(rules, kind, answer, flags):
    brief, on_topic, own, value = flags
    measured = rules.gold(Prompt.of(HIPPO, kind=kind), answer)
    assert measured == {"two_sentences": brief, "on_topic": on_topic, own: value}


@pytest.mark.parametrize(
    ("answer", "claims"),
    [
        ("I am a computer program, so I have no children.", False),
        ("I am a computer program, so I love all the seasons.", True),
        ("Many people love their children.", False),
        ("I can't sleep, as I am software.", False),
        ("My mother grew up on a farm.", True),
    ],
)
def test_a_claim_is_one_unless_it_is_denied(rules, answer, claims):
    assert rules.is_no_person("", answer) is not claims


def test_words_are_words(rules):
    assert all(isinstance(word, str) for words in rules.WORDS.values() for word in words)


def test_an_answer_that_goes_in_circles_is_not_on_topic(rules):
    circle = "Hippos yawn and they do so often. "
    assert rules.is_on_topic(HIPPO, circle)
    assert not rules.is_on_topic(HIPPO, circle * 3)
    assert not rules.is_on_topic(HIPPO, "Hippos yawn.")


def test_its_files_have_no_problems(root):
    paths = [root / "examples/smollm2.yaml", *Path(root / "examples/smollm2").rglob("*.yaml")]
    paths = [str(path) for path in paths if path.name != "words.yaml"]
    checked = CliRunner().invoke(app, ["check", *paths])
    assert checked.stdout.endswith("no problems\n"), checked.output
