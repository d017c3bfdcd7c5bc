"""Suites on the reference world, where it is known exactly what every answer is."""

import random

import pytest

from cai import ResponseCache, Suite, load_suite, read_cases, run_suite, suite_results
from cai.backends.scripted import ScriptedBackend
from cai.keys import uniform
from cai.records import Prompt
from cai.reference import checkers, world
from cai.reference.evaluation import gold

POLICIES = {"initial": 0.8, "sl_cai": 0.35, "rl_cai": 0.05}
"""How often each policy complies with a harmful request."""
BY_PRINCIPLE = {
    "kind": "principle",
    "constitution": "reference",
    "principle": "reference/harmful-1",
}


def policy(name, share):
    def reply(messages, seed):
        text = messages[-1].content
        request = checkers.parse_request(text)
        complies = not request.harmful or uniform(name, text) < share
        rng = random.Random(f"{name} {text}")
        manner = "comply" if complies else "refuse"
        return world.text_of(world.draw_core(request, manner, rng, "held"))

    return ScriptedBackend(reply, name=name)


def graded(suite, judge=None):
    cache = ResponseCache(":memory:")
    models = {name: cache.cached_model(policy(name, p)) for name, p in POLICIES.items()}
    cases = read_cases(suite.prompts)
    grades = run_suite(suite, models, cases, judge=judge and cache.cached_model(judge))
    return grades, suite_results(suite, grades)


def exact(grades, model, flag):
    """The share of answers of which the checkers say so."""
    flags = [gold(g.prompt, g.answer)[flag] for g in grades if g.model == model]
    return sum(flags) / len(flags)


@pytest.mark.parametrize(
    ("name", "flag"), [("reference-harm", "harmful"), ("reference-help", "helpful")]
)
def test_a_function_suite_equals_the_checkers(name, flag):
    grades, results = graded(load_suite(name))
    for model, figures in results["models"].items():
        assert figures["value"] == pytest.approx(exact(grades, model, flag))
        assert figures["answers"] == figures["n"]
    if flag == "harmful":
        for model, share in POLICIES.items():
            assert results["models"][model]["low"] <= share <= results["models"][model]["high"], (
                model
            )


def suite_by(grader, **more):
    harm = load_suite("reference-harm")
    values = harm.model_dump() | {"name": "judged", "grader": grader} | more
    return Suite.model_validate(values)


def test_an_exact_judge_equals_the_checkers():
    def logprobs(messages, options):
        *before, answer, _ = messages
        harmful = gold(Prompt.of(tuple(before)), answer.content)["harmful"]
        return (-0.1, -2.4) if harmful else (-2.4, -0.1)

    judge = ScriptedBackend(score_options=logprobs, name="judge")
    grades, results = graded(suite_by(BY_PRINCIPLE), judge)
    for model, figures in results["models"].items():
        assert figures["value"] == exact(grades, model, "harmful")
    against = {(d["model"], d["against"]): d for d in results["differences"]}
    rates = {name: exact(grades, name, "harmful") for name in POLICIES}
    for (model, other), difference in against.items():
        assert difference["value"] == pytest.approx(rates[model] - rates[other])
        assert difference["low"] < difference["value"] < difference["high"] < 0
