"""The stages that ask models: sample, revise, compare, judge, and the audit of the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from cai import distributed
from cai.data.prompts import by_kind, read_prompts
from cai.errors import RunFailed
from cai.feedback.compare import compare
from cai.feedback.few_shot import few_shot_comparisons
from cai.feedback.judge import judge
from cai.feedback.judge_methods import JudgeMethod, judge_method
from cai.feedback.revise import revise
from cai.feedback.sample import sample
from cai.files import read_records, stream_records, write_json, write_records
from cai.pipeline.held_out import held_out_notes, repeats
from cai.pipeline.inputs import (
    BENIGN,
    EVAL_BENIGN,
    EVAL_RED_TEAM,
    RED_TEAM,
    human_preferences,
    prompts_of,
)
from cai.pipeline.run import Run
from cai.records import Comparison, Preference, Prompt, Revision, Sample
from cai.ties import is_near_tie

Metrics = dict[str, Any]
T = TypeVar("T")
U = TypeVar("U")
PART = 4_096
"""Records that a stage works on at once."""


def prompts(run: Run) -> Metrics:
    """Read the prompt sets, each prompt once."""
    config = run.config.prompts
    found: dict[str, Prompt] = {}
    repeated = Counter[str]()
    wanted = (
        (RED_TEAM, config.red_team, config.red_team_limit),
        (BENIGN, config.benign, config.benign_limit),
        (EVAL_RED_TEAM, config.eval_red_team, config.eval_limit),
        (EVAL_BENIGN, config.eval_benign, config.eval_limit),
    )
    for kind, name, limit in wanted:
        if name:
            for prompt in read_prompts(run.path(name), kind, limit or 0):
                repeated.update([kind] if prompt.id in found else [])
                found.setdefault(prompt.id, prompt)
    distributed.on_main(write_records, run.records("prompts"), found.values())
    counts = {kind: len(by_kind(list(found.values()), kind)) for kind, _, _ in wanted}
    metrics = {**counts, "in_an_earlier_set": repeated.total(), "repeated": dict(repeated)}
    notes = [repeats(kind, count, counts[kind]) for kind, count in repeated.items()]
    for note in dict.fromkeys([*notes, *held_out_notes(run.config, metrics)]):
        run.reporter.info(note)
    return metrics


def draft(run: Run) -> Metrics:
    """The initial policy answers: red-team prompts to be revised, benign ones for the helpfulness mix."""
    config, asked, statuses = run.config.sample, prompts_of(run, RED_TEAM, BENIGN), Counter[str]()
    model = run.cached_model(run.model(run.config.models.initial), "sample", run.chat_format)

    def answered(part: list[Prompt]) -> Iterator[Sample]:
        for made in sample(
            part,
            model,
            seed=run.config.seed,
            temperature=config.temperature,
            max_tokens=config.max_tokens,
        ):
            statuses[made.status] += 1
            yield made

    distributed.write_on_main(write_records, run.records("sample"), in_parts(asked, answered))
    return {
        "samples": statuses.total(),
        **{status: n for status, n in sorted(statuses.items()) if status != "ok"},
    }


def revise_stage(run: Run) -> Metrics:
    """Critique and revise the answers to red-team prompts, by drawn principles."""
    config, model, seen = run.config.revise, run.critic("revise"), Counter[str]()
    drafts = (s for s in stream_records(run.records("sample"), Sample) if s.prompt.kind == RED_TEAM)

    def revised(part: list[Sample]) -> Iterator[Revision]:
        for made in revise(
            part,
            run.constitution,
            model,
            rounds=config.rounds,
            direct=config.direct,
            seed=run.config.seed,
            temperature=config.temperature,
            max_tokens=config.max_tokens,
        ):
            seen["revisions"] += 1
            for step in made.steps:
                seen.update(
                    {
                        "steps": 1,
                        "unchanged": int(step.unchanged),
                        "failed_steps": int(step.status != "ok"),
                    }
                )
            yield made

    distributed.write_on_main(write_records, run.records("revise"), in_parts(drafts, revised))
    return {name: seen[name] for name in ("revisions", "steps", "unchanged", "failed_steps")}


def compare_stage(run: Run) -> Metrics:
    """The policy so far answers every prompt several times; pairs are made of different answers."""
    config, models, seen = run.config.compare, run.config.models, Counter[str]()
    asked = prompts_of(run, RED_TEAM, BENIGN)
    name, policy = (
        ("sl_cai", run.checkpoint("sft"))
        if run.round == 1
        else (f"rl_cai_{run.round - 1}", run.at(run.round - 1).checkpoint("ppo"))
    )
    model, ask_initial = (
        run.cached_model(str(policy), "compare", run.chat_format),
        run.cached_model(run.model(models.initial), "compare", run.chat_format),
    )
    how, paired = {"temperature": config.temperature, "max_tokens": config.max_tokens}, set[str]()

    def compared(part: list[Prompt]) -> Iterator[Comparison]:
        made = {name: sample(part, model, n=config.samples, seed=run.config.seed + 1, **how)}  # type: ignore[arg-type]
        if config.initial_samples:
            made["initial"] = sample(
                part, ask_initial, n=config.initial_samples, seed=run.config.seed + 2, **how
            )  # type: ignore[arg-type]
        for pair in compare(made, seed=run.config.seed, pairs_per_prompt=config.pairs_per_prompt):
            paired.add(pair.prompt.id)
            seen["comparisons"] += 1
            yield pair

    distributed.write_on_main(write_records, run.records("compare"), in_parts(asked, compared))
    return {"comparisons": seen["comparisons"], "prompts_without_a_pair": len(asked) - len(paired)}


def judge_stage(run: Run) -> Metrics:
    """The AI judge labels the comparisons by principle."""
    config, model, method, seen = (
        run.config.judge,
        run.judge("judge"),
        method_of(run),
        Counter[str](),
    )

    def judged(part: list[Comparison]) -> Iterator[Preference]:
        for made in judge(
            part,
            run.constitution,
            model,
            method,
            principles=config.principles or 0,
            combine=config.combine,
            seed=run.config.seed,
        ):
            seen["unscored" if made.p_first is None else "labels"] += 1
            seen["near_ties"] += made.p_first is not None and is_near_tie(made.p_first)
            yield made

    distributed.write_on_main(
        write_records,
        run.records("judge"),
        in_parts(stream_records(run.records("compare"), Comparison), judged),
    )
    return {name: seen[name] for name in ("labels", "unscored", "near_ties")}


def method_of(run: Run) -> JudgeMethod:
    """The reading method that the config names."""
    config = run.config.judge
    return judge_method(
        config.method,
        seed=run.config.seed,
        swap_positions=config.swap_positions,
        delimiters=config.delimiters,
        samples=config.samples or 0,
        few_shot=few_shot_comparisons(run.constitution, config.few_shot, run.config.seed),
    )


def audit_stage(run: Run) -> Metrics:
    """Look at the labels before anything is trained on them, and stop where they are not fit for it."""
    from cai.evaluate.audit import audit
    from cai.evaluate.gate import gate_failures
    from cai.evaluate.judge_tests import (
        adversarial_tests,
        judge_test_metrics,
        judge_tests,
        run_judge_tests,
    )

    config = run.config.audit
    metrics = audit(read_records(run.records("judge"), Preference))
    asked = (
        [
            *judge_tests(run.constitution, run.config.seed),
            *adversarial_tests(run.constitution, run.config.seed),
        ]
        if config.examples
        else []
    )
    model = run.judge("audit")
    templates = run.constitution.templates_for(model)
    metrics["examples"] = judge_test_metrics(
        run_judge_tests(asked, method_of(run), model, templates)
    )
    metrics["human"] = _agreement(run) if config.human_pairs else {}
    if config.human_pairs and not metrics["human"]["n"]:
        run.reporter.info(
            "audit.human_pairs: no comparison has both a human label and one of the judge; add some in reward.human"
        )
    metrics["gate_failures"] = gate_failures(metrics, metrics["examples"], config.model_dump())
    distributed.on_main(write_json, run.stage_folder("audit") / "audit.json", metrics)
    if metrics["gate_failures"] and config.gate:
        reasons = "\n".join(f"  {reason}" for reason in metrics["gate_failures"])
        raise RunFailed(
            f"the labels are not fit to train on:\n{reasons}\nsee {run.stage_folder('audit') / 'audit.json'}; to go on all the same: --set audit.gate=false"
        )
    shares = {
        "first_wins": metrics["position"]["first_wins"],
        "longer_wins": metrics["length"]["longer_wins"],
        "near_ties": metrics["near_ties"],
        "examples_right": metrics["examples"]["plain"],
        "adversarial_flips": metrics["examples"]["adversarial_flips"],
    }
    return {name: share["value"] for name, share in shares.items() if share["n"]} | {
        "gate_failures": len(metrics["gate_failures"])
    }


def _agreement(run: Run) -> Metrics:
    """The judge on comparisons that people have labelled; which answer stands first is keyed."""
    from cai.evaluate.agreement import agreement, matched
    from cai.keys import shuffled, uniform

    human, _ = human_preferences(run)
    drawn = shuffled(human, run.config.seed, "agreement")[: run.config.audit.human_pairs]
    shown = [
        p.swap() if uniform(run.config.seed, "agreement order", p.id) < 0.5 else p for p in drawn
    ]
    config = run.config.judge
    judged = judge(
        [p.comparison for p in shown],
        run.constitution,
        run.judge("audit"),
        method_of(run),
        principles=config.principles or 0,
        combine=config.combine,
        seed=run.config.seed,
    )
    return agreement(matched(judged, shown), run.config.seed)


def in_parts(items: Iterable[T], work: Callable[[list[T]], Iterable[U]]) -> Iterator[U]:
    """Work on some thousand items at a time, so that memory stays flat however many there are; what comes out is the same."""
    rest = iter(items)
    while part := list(islice(rest, PART)):
        yield from work(part)
