"""The stage that looks at the labels before anything is trained on them."""

from __future__ import annotations

from cai.constitution.schema import Constitution
from cai.data.preferences import read_preferences
from cai.errors import RunFailed
from cai.evaluate.agreement import agreement, matched
from cai.evaluate.audit import audit
from cai.evaluate.gate import gate_failures
from cai.evaluate.judge_tests import (
    JudgeTest,
    adversarial_tests,
    judge_test_metrics,
    judge_tests,
)
from cai.feedback.judge import is_empty_answer, judge
from cai.keys import shuffled, uniform
from cai.pipeline.dry_run import DryRun, RequestCount
from cai.pipeline.feedback import judgment_requests, method_of, principles_per_label
from cai.pipeline.judge_checks import REMEDY, asked_again, shipped_examples, test_judge
from cai.pipeline.prompts import BENIGN, RED_TEAM
from cai.pipeline.stage import Metrics, StageContext
from cai.records import Preference


def audit_stage(context: StageContext) -> Metrics:
    """Measure the labels and the judge, and stop if the labels are not fit to train on.

    Raises:
        RunFailed: If a limit of the section ``audit`` is broken and its gate is on.
    """
    config = context.config.audit
    preferences = context.read("judge", Preference)
    metrics = audit(preferences)
    metrics |= asked_again(context, preferences)
    metrics["examples"] = judge_test_metrics([])
    if config.examples:
        tests = judge_tests_of(context.constitution, context.config.seed)
        metrics["examples"] = test_judge(context, tests)
        metrics |= shipped_examples(context, metrics["examples"]["plain"]["n"])
    metrics["human"] = _human_agreement(context) if config.human_pairs else {}
    if config.human_pairs and not metrics["human"]["n"]:
        context.reporter.info(
            "audit.human_pairs: no comparison has both a human label and one of the judge; "
            "add some in reward.human"
        )
    metrics["gate_failures"] = gate_failures(metrics, metrics["examples"], config.model_dump())
    path = context.write_json("audit.json", metrics)
    if metrics["gate_failures"] and config.gate:
        reasons = "\n".join(f"  {reason}" for reason in metrics["gate_failures"])
        raise RunFailed(
            f"the labels are not fit to train on:\n{reasons}\n{REMEDY}\n"
            f"see {path}; to continue anyway: --set audit.gate=false"
        )
    return _summary(metrics)


def audit_requests(dry_run: DryRun) -> list[RequestCount]:
    """The judge tests on the constitution's examples, and the human comparisons."""
    config = dry_run.config
    counts: list[RequestCount] = []
    if config.audit.examples:
        tests = [
            test
            for test in judge_tests_of(dry_run.constitution, config.seed)
            if not is_empty_answer(test.comparison.first)
            and not is_empty_answer(test.comparison.second)  # these lose without a request
        ]
        prompts = [test.comparison.prompt for test in tests]
        counts.append(judgment_requests(dry_run, len(tests), prompts))
    if config.audit.human_pairs:
        judgments = config.audit.human_pairs * principles_per_label(dry_run)
        counts.append(judgment_requests(dry_run, judgments, dry_run.of_kind(RED_TEAM, BENIGN)))
    return counts


def judge_tests_of(constitution: Constitution, seed: int) -> list[JudgeTest]:
    """The tests that the examples of a constitution make, adversarial ones included.

    Args:
        constitution: The constitution.
        seed: Seed of the order of the answers.
    """
    return [*judge_tests(constitution, seed), *adversarial_tests(constitution, seed)]


def human_preferences(context: StageContext) -> tuple[list[Preference], dict[str, int]]:
    """The human preferences of ``reward.human``, and how many rows were left out for which reason.

    Args:
        context: The stage.
    """
    preferences: list[Preference] = []
    left_out: dict[str, int] = {}
    for name in context.config.reward.human:
        file = read_preferences(context.run.path(name))
        preferences += file.preferences
        for reason, count in file.counts.items():
            left_out[f"{name}: {reason}"] = count
    return preferences, left_out


def _human_agreement(context: StageContext) -> Metrics:
    """How far the judge agrees with people; which answer is shown first is drawn by a key."""
    config, seed = context.config, context.config.seed
    preferences, _ = human_preferences(context)
    drawn = shuffled(preferences, seed, "agreement")[: config.audit.human_pairs]
    shown = [p.swap() if uniform(seed, "agreement order", p.id) < 0.5 else p for p in drawn]
    labels = judge(
        [preference.comparison for preference in shown],
        context.constitution,
        context.judge(),
        method_of(config, context.constitution),
        principles=config.judge.principles or 0,
        combine=config.judge.combine,
        seed=seed,
    )
    return agreement(matched(labels, shown), seed)


def _summary(metrics: Metrics) -> Metrics:
    """The metrics that are shown beside the stage; those without data are left out."""
    proportions = {
        "first_wins": metrics["position"]["first_wins"],
        "longer_wins": metrics["length"]["longer_wins"],
        "near_ties": metrics["near_ties"],
        "examples_right": metrics["examples"]["plain"],
        "adversarial_flips": metrics["examples"]["adversarial_flips"],
    }
    measured = {name: share["value"] for name, share in proportions.items() if share["n"]}
    return {**measured, "gate_failures": len(metrics["gate_failures"])}
