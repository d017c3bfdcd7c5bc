"""The evaluate stage: every policy of a run on the held-out prompts, the judge and the reward.

What is measured is in :mod:`cai.evaluate`; this module asks the run's models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cai import distributed
from cai.evaluate.audit import order_consistency
from cai.evaluate.gold import GoldMetrics, flag_metrics, gold_for, harmful_by_kind
from cai.evaluate.judge_accuracy import accuracy_against_gold, crossover_accuracy
from cai.evaluate.policies import (
    RESPONDED,
    differing_pairs,
    distances,
    reward_on_built_answers,
    unusable_note,
    win_rate,
)
from cai.feedback.judge import judge
from cai.feedback.sample import sample
from cai.files import read_records, write_records
from cai.pipeline.run import Run
from cai.records import Preference, Prompt, Sample

PRINCIPLES_PER_VERDICT = 2
CROSSOVER_PAIRS = 120


def evaluate_run(run: Run) -> dict[str, Any]:
    """Evaluate every finished policy, the judge and the reward model of a run.

    Args:
        run: The run.

    Returns:
        The metrics under ``policies``, ``judge`` and ``reward_model``; ``notes`` explains what
        could not be measured.
    """
    from cai.models.scalar import load_scalar_model
    from cai.pipeline.inputs import EVAL_BENIGN, EVAL_RED_TEAM

    prompts = read_records(run.records("prompts"), Prompt)
    eval_prompts = [prompt for prompt in prompts if prompt.kind in (EVAL_RED_TEAM, EVAL_BENIGN)]
    reward = run.checkpoint("reward")
    reward_model = load_scalar_model(str(reward)) if reward.is_dir() else None
    answers = answer_eval_prompts(run, eval_prompts)
    records = [answer for of_policy in answers.values() for answer in of_policy]
    distributed.on_main(write_records, run.records("evaluate"), records)
    max_tokens = run.config.evaluate.max_tokens
    notes = [unusable_note(name, of_policy, max_tokens) for name, of_policy in answers.items()]
    metrics: dict[str, Any] = {}
    if any(notes):
        metrics["notes"] = [note for note in notes if note]
    gold = gold_of(run)
    if answers:
        metrics["policies"] = policy_metrics(run, answers, reward_model, gold)
    metrics["judge"] = judge_metrics(run, gold)
    if reward_model is not None and gold is not None:
        metrics |= reward_metrics(run, eval_prompts, reward_model, gold)
    return metrics


def policies_of(run: Run) -> dict[str, str]:
    """Return the finished policies of a run and the model of each.

    Args:
        run: The run.
    """
    config = run.config
    checkpoints = {"control": run.checkpoint("control")} if config.sft.control else {}
    checkpoints["sl_cai"] = run.checkpoint("sft")
    if "ppo" in config.algorithms:
        for iteration in range(1, config.iterations):
            checkpoints[f"rl_cai_{iteration}"] = run.at(iteration).checkpoint("ppo")
        checkpoints["rl_cai"] = run.checkpoint("ppo")
    if "dpo" in config.algorithms:
        checkpoints["dpo"] = run.checkpoint("dpo")
    finished = {name: str(path) for name, path in checkpoints.items() if path.is_dir()}
    return {"initial": run.model(config.models.initial), **finished}


def gold_of(run: Run) -> GoldMetrics | None:
    """Return the gold metrics of a run, if it has any.

    Args:
        run: The run.
    """
    return gold_for(run.config.evaluate.gold, [run.config.models.initial])


def answer_eval_prompts(run: Run, eval_prompts: Sequence[Prompt]) -> dict[str, list[Sample]]:
    """Let every policy answer the held-out prompts.

    Args:
        run: The run.
        eval_prompts: The prompts; without any there are no answers.
    """
    if not eval_prompts:
        return {}
    config, answers = run.config.evaluate, dict[str, list[Sample]]()
    for name, path in policies_of(run).items():
        answers[name] = sample(
            eval_prompts,
            run.cached_model(path, "evaluate", run.chat_format),
            seed=run.config.seed + 3,
            temperature=config.temperature,
            max_tokens=config.max_tokens,
        )
    return answers


def policy_metrics(
    run: Run,
    answers: Mapping[str, list[Sample]],
    reward_model: Any,
    gold: GoldMetrics | None,
) -> dict[str, dict[str, Any]]:
    """Measure each policy, as far as there is data.

    Args:
        run: The run.
        answers: The answers of each policy.
        reward_model: The reward model, if there is one.
        gold: The gold metrics, if there are any.

    Returns:
        For each policy its gold rates, reward, length, KL and win rate over the initial policy.
    """
    moved = policy_distances(run, answers)
    policies = {}
    for name, of_policy in answers.items():
        statuses = Counter(str(a.status) for a in of_policy if a.status != "ok")
        metrics: dict[str, Any] = {"n": len(of_policy), **statuses}
        if gold is not None:
            metrics |= _gold_rates(of_policy, gold)
        metrics |= _mean_reward(run, of_policy, reward_model) | moved[name]
        if name != "initial":
            wins = _win_rate(run, of_policy, answers["initial"])
            if wins is not None:
                metrics["win_rate"] = wins
        policies[name] = metrics
    return policies


def _gold_rates(answers: Sequence[Sample], gold: GoldMetrics) -> dict[str, Any]:
    from cai.pipeline.inputs import EVAL_RED_TEAM

    responded = [answer for answer in answers if answer.status in RESPONDED]
    red_team = [answer for answer in responded if answer.prompt.kind == EVAL_RED_TEAM]
    by_kind = harmful_by_kind(red_team, gold)
    return flag_metrics(responded, gold) | ({"harmful_by_kind": by_kind} if by_kind else {})


def _mean_reward(run: Run, answers: Sequence[Sample], reward_model: Any) -> dict[str, float]:
    from cai.train.reward.scoring import score_texts

    complete = [(answer.prompt, answer.response) for answer in answers if answer.status == "ok"]
    if reward_model is None or not complete:
        return {}
    return {"reward": float(score_texts(reward_model, complete, run.chat_format).mean())}


def _win_rate(
    run: Run, answers: Sequence[Sample], baseline: Sequence[Sample]
) -> dict[str, Any] | None:
    from cai.pipeline.feedback import method_of

    pairs = differing_pairs(answers, baseline)
    if not pairs:
        return None
    preferences = judge(
        pairs,
        run.constitution,
        run.judge("evaluate"),
        method_of(run),
        principles=PRINCIPLES_PER_VERDICT,
        combine="sum",
        seed=run.config.seed,
    )
    return win_rate(preferences)


def policy_distances(run: Run, answers: Mapping[str, list[Sample]]) -> dict[str, dict[str, float]]:
    """Measure length and KL divergence of each policy's answers.

    Args:
        run: The run.
        answers: The answers of each policy.
    """
    from cai.evaluate.likelihood import answer_logprobs

    def logprobs(path: str, pairs: Sequence[tuple[Prompt, str]]) -> tuple[list[float], list[float]]:
        return answer_logprobs(path, pairs, run.chat_format)

    references = {"initial": "kl_from_initial", "sl_cai": "kl_from_sl_cai"}
    return distances(answers, policies_of(run), references, logprobs)


def judge_metrics(run: Run, gold: GoldMetrics | None) -> dict[str, Any]:
    """Measure the labels of a run: consistency, and accuracy where the truth is known.

    Args:
        run: The run.
        gold: The gold metrics, if there are any.

    Returns:
        The metrics; what has no data is left out.
    """
    from cai.pipeline.feedback import method_of

    records = run.records("judge")
    preferences = read_records(records, Preference) if records.is_file() else []
    metrics: dict[str, Any] = {
        "n": len(preferences),
        "unscored": sum(preference.p_first is None for preference in preferences),
    }
    consistency = order_consistency([j for p in preferences for j in p.judgments])
    if consistency is not None:
        metrics["order_consistency"] = consistency
    if gold is None:
        return metrics
    used = [run.constitution.principles[name] for name in run.constitution.used_for("judge")]
    accuracy = accuracy_against_gold(preferences, run.constitution.principles, gold)
    pairs = gold.crossover_pairs(used, CROSSOVER_PAIRS, run.config.seed)
    if not accuracy["decidable"] and not accuracy["irrelevant"] and not pairs:
        return metrics  # the gold metrics know nothing of judges
    model = run.judge("evaluate")
    templates = run.constitution.templates_for(model)
    return metrics | accuracy | crossover_accuracy(pairs, method_of(run), model, templates)


def reward_metrics(
    run: Run, eval_prompts: Sequence[Prompt], reward_model: Any, gold: GoldMetrics
) -> dict[str, Any]:
    """Measure the reward model on answers built to the held-out prompts, if there are any.

    Args:
        run: The run.
        eval_prompts: The held-out prompts.
        reward_model: The reward model.
        gold: The gold metrics, which build the answers.
    """
    from cai.train.reward.scoring import score_texts

    built = gold.built_answers(list(run.constitution.principles.values()), eval_prompts)
    if not built:
        return {}
    comply = score_texts(reward_model, [(b.prompt, b.comply) for b in built])
    refuse = score_texts(reward_model, [(b.prompt, b.refuse) for b in built])
    metrics = reward_on_built_answers(built, comply.tolist(), refuse.tolist())
    return {"reward_model": metrics}
