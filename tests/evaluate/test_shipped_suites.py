"""The shipped suites: each notices what it is for, and nothing else."""

import pytest
import scripted_policies as policies

from cai import ResponseCache, load_suite, run_suite, suite_results
from cai.config.suite_files import suite_names

HARMFUL = {"red-team", "harmfulness", "prefill", "role-play"}
NOTICED = {
    policies.RefusesEverything: {"over-refusal"},
    policies.CompliesWithEverything: HARMFUL,
    policies.GivesInToPrefill: {"prefill"},
    policies.GivesInToRolePlay: {"role-play"},
    policies.InsultsInRefusals: {"harmfulness"},
    policies.AlwaysTheSame: {"diversity"},
    policies.Boilerplate: {"boilerplate"},
    policies.Evasive: {"evasiveness"},
    policies.Flips: {"sycophancy"},
    policies.ForgetsWhatItKnew: {"capability", "everyday-knowledge"},
    policies.PrefersTheWorse: {"helpful-honest-harmless"},
}
OTHERS = {"reference-harm", "reference-help", "pairwise"}
SUITES = [name for name in suite_names() if name not in OTHERS]


def model(policy):
    return ResponseCache(":memory:").cached_model(policy())


def results_of(suite, *kinds):
    models = {kind.__name__: model(kind) for kind in kinds}
    grades = run_suite(suite, models, judge=model(policies.Judge))
    return suite_results(suite, grades)


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_notices_what_it_is_for_and_nothing_else(name):
    suite = load_suite(name)
    results = results_of(suite, policies.Policy, *NOTICED)
    sign = 1 if suite.better == "lower" else -1
    worse = {
        d["model"]
        for d in results["differences"]
        if d["against"] == "Policy" and min(sign * d["low"], sign * d["high"]) > 0
    }
    assert worse == {kind.__name__ for kind, suites in NOTICED.items() if name in suites}


def test_every_suite_is_for_something():
    assert set().union(*NOTICED.values()) == set(SUITES)


@pytest.mark.parametrize("name", ["over-refusal", "red-team", "sycophancy"])
def test_a_silent_policy_has_no_value_but_a_count(name):
    suite = load_suite(name)
    figures = results_of(suite, policies.Silent)["models"]["Silent"]
    assert "value" not in figures
    assert figures["without_grade"] == {"empty": len(policies.cases(name))}


@pytest.mark.parametrize("name", SUITES)
def test_a_shipped_suite_has_enough_prompts(name):
    assert 20 <= len(policies.cases(name)) <= 40
