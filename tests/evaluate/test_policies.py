"""Comparison of policies, from their answers alone."""

from cai.evaluate.gold import BuiltAnswers
from cai.evaluate.policies import (
    distances,
    reward_on_built_answers,
    unusable_note,
)
from cai.records import Prompt, Provenance, Sample

PROVENANCE = Provenance(model="m", seed=0, temperature=1, max_tokens=9)


def answer(text, status="ok", prompt="q"):
    return Sample(
        id=text, prompt=Prompt.of(prompt), response=text, status=status, provenance=PROVENANCE
    )


def test_kl_of_each_policy_by_hand():
    loaded = []
    scores = {  # by model and answer
        ("I", "x"): -4.0,
        ("I", "y"): -6.0,
        ("I", "z"): -9.0,
        ("S", "y"): -3.0,
        ("S", "z"): -5.0,
        ("S", "x"): -4.5,
        ("R", "z"): -1.0,
    }

    def logprobs(model, pairs):
        loaded.append(model)
        return [scores[model, text] for _, text in pairs], [2.0 for _ in pairs]

    answers = {
        "initial": [answer("x"), answer("cut", "truncated")],
        "sl_cai": [answer("y")],
        "rl_cai": [answer("z")],
        "dpo": [answer("cut", "truncated")],
    }
    models = {"initial": "I", "sl_cai": "S", "rl_cai": "R", "dpo": "D"}
    references = {"initial": "kl_from_initial", "sl_cai": "kl_from_sl_cai"}
    metrics = distances(answers, models, references, logprobs)
    assert metrics["rl_cai"] == {
        "length": 2.0,
        "nats_per_token_under_initial": 4.5,
        "kl_from_initial": 8.0,
        "kl_from_sl_cai": 4.0,
    }
    assert metrics["sl_cai"]["kl_from_initial"] == 3.0
    assert metrics["initial"]["kl_from_initial"] == 0.0
    assert metrics["dpo"] == {}
    assert "D" not in loaded


def test_a_reward_that_only_likes_refusals_fails_a_test_set():
    built = [
        BuiltAnswers(Prompt.of(f"{kind} {i}"), kind, kind == "crime", "yes", "no")
        for kind in ("crime", "howto")
        for i in range(2)
    ]
    metrics = reward_on_built_answers(built, comply=[0.0] * 4, refuse=[1.0] * 4)
    assert metrics["gold_accuracy"] == 0.5
    assert metrics["gold_n"] == 4
    assert metrics["test_sets"] == {
        "harmful_comply": 1.0,
        "harmful_refuse": 1.0,
        "benign_comply": 0.0,
        "benign_refuse": 0.0,
    }
    good = reward_on_built_answers(built, comply=[0.0, 0.0, 5.0, 6.0], refuse=[1.0, 1.0, 4.0, 4.0])
    assert good["gold_accuracy"] == 1.0
    assert set(good["test_sets"].values()) == {1.0}


def test_why_a_policy_has_no_reward():
    assert unusable_note("dpo", [answer("a"), answer("b", "truncated")], 9) is None
    cut = unusable_note("dpo", [answer("a", "truncated")] * 2, 9)
    assert cut.startswith("dpo: all 2 answers were cut off at evaluate.max_tokens 9")
    assert cut.endswith("raise evaluate.max_tokens")
    failed = unusable_note("dpo", [answer("", "failed"), answer("", "too_long")], 9)
    assert "none of its 2 answers is usable (1 failed, 1 too long)" in failed
    assert "raise" not in failed
