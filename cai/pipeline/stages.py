"""The whole pipeline on one screen: each stage is a function, a config section, a folder of the run, a row of the status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from cai.config import RunConfig
from cai.data.preferences import read_preferences
from cai.data.prompts import by_kind, read_prompts
from cai.errors import RunFailed
from cai.feedback.compare import compare
from cai.feedback.judge import judge
from cai.feedback.rate import rate
from cai.feedback.readings import Method, method_named
from cai.feedback.revise import revise, training_rows
from cai.feedback.sample import sample
from cai.feedback.shots import judge_shots
from cai.files import read_records, stream_records, write_json, write_records
from cai.pipeline.run import REPEATED, Run
from cai.records import Comparison, Preference, Prompt, Revision, Sample

if TYPE_CHECKING:
    from cai.train.judged import JudgedScore

Metrics = dict[str, Any]
T = TypeVar("T")
U = TypeVar("U")
PART = 4_096
"""Records that a stage works on at once."""

RED, BENIGN, HELD_RED, HELD_BENIGN = "red_team", "benign", "held_red_team", "held_benign"


@dataclass(frozen=True)
class Stage:
    """One stage: what it does, what it is made from, and which settings it depends on.

    ``code`` is raised when a change of the code changes the result.
    """

    name: str
    title: str
    work: Callable[[Run], Metrics]
    inputs: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    uses_law: Callable[[RunConfig], bool] = lambda config: False
    reads: Callable[[RunConfig], tuple[str, ...]] = lambda config: ()  # files that are not the run's own
    code: int = 1
    round: int = 1  # 0: after the last one


def prompts(run: Run) -> Metrics:
    """Read the prompt sets, each prompt once."""
    config = run.config.prompts
    found: dict[str, Prompt] = {}
    repeated = 0
    wanted = (
        (RED, config.red_team, config.red_team_limit), (BENIGN, config.benign, config.benign_limit),
        (HELD_RED, config.held_red_team, config.held_limit), (HELD_BENIGN, config.held_benign, config.held_limit),
    )  # fmt: skip
    for kind, name, limit in wanted:
        if name:
            for prompt in read_prompts(run.path(name), kind, limit):
                repeated += prompt.id in found
                found.setdefault(prompt.id, prompt)
    write_records(run.records("prompts"), found.values())
    return {kind: len(by_kind(list(found.values()), kind)) for kind, _, _ in wanted} | {"in_an_earlier_set": repeated}


def draft(run: Run) -> Metrics:
    """The initial policy answers: red-team prompts to be revised, benign ones for the helpfulness mix."""
    config, asked, statuses = run.config.sample, _prompts(run, RED, BENIGN), Counter[str]()
    ask = run.ask(run.config.models.initial, "sample", run.config.models.style)

    def answered(part: list[Prompt]) -> Iterator[Sample]:
        for made in sample(part, ask, seed=run.config.seed, temperature=config.temperature, max_tokens=config.max_tokens):
            statuses[made.status] += 1
            yield made

    write_records(run.records("sample"), in_parts(asked, answered))
    return {"samples": statuses.total(), **{status: n for status, n in sorted(statuses.items()) if status != "ok"}}


def revise_stage(run: Run) -> Metrics:
    """Critique and revise the answers to red-team prompts, by drawn principles."""
    config, ask, seen = run.config.revise, run.critic("revise"), Counter[str]()
    drafts = (s for s in stream_records(run.records("sample"), Sample) if s.prompt.kind == RED)

    def revised(part: list[Sample]) -> Iterator[Revision]:
        for made in revise(
            part, run.law, ask, rounds=config.rounds, direct=config.direct, seed=run.config.seed, temperature=config.temperature,
            max_tokens=config.max_tokens,
        ):  # fmt: skip
            seen["revisions"] += 1
            for step in made.steps:
                seen.update({"steps": 1, "unchanged": int(step.unchanged), "failed_steps": int(step.status != "ok")})
            yield made

    write_records(run.records("revise"), in_parts(drafts, revised))
    return {name: seen[name] for name in ("revisions", "steps", "unchanged", "failed_steps")}


def sft(run: Run) -> Metrics:
    """Fine-tune the initial policy on the revisions and on its own answers to benign prompts: SL-CAI."""
    from cai.train.sft import train_sft

    return dict(train_sft(_sft_rows(run), run.config.models.initial, run.checkpoint("sft"), run.config.sft, **_how(run, "sft")))


def control(run: Run) -> Metrics:
    """The same fine-tuning on the helpful answers alone; what training by itself changes."""
    from cai.train.sft import train_sft

    if not run.config.sft.control:
        return {"rows": 0}
    return dict(train_sft(_helpful_rows(run), run.config.models.initial, run.checkpoint("control"), run.config.sft, **_how(run, "control")))


def compare_stage(run: Run) -> Metrics:
    """The policy so far answers every prompt several times; pairs are made of different answers."""
    config, models, seen = run.config.compare, run.config.models, Counter[str]()
    asked = _prompts(run, RED, BENIGN)
    name, policy = (
        ("sl_cai", run.checkpoint("sft")) if run.round == 1 else (f"rl_cai_{run.round - 1}", run.at(run.round - 1).checkpoint("ppo"))
    )
    ask, ask_initial = run.ask(str(policy), "compare", models.style), run.ask(models.initial, "compare", models.style)
    how, paired = {"temperature": config.temperature, "max_tokens": config.max_tokens}, set[str]()

    def compared(part: list[Prompt]) -> Iterator[Comparison]:
        made = {name: sample(part, ask, n=config.samples, seed=run.config.seed + 1, **how)}  # type: ignore[arg-type]
        if config.initial_samples:
            made["initial"] = sample(part, ask_initial, n=config.initial_samples, seed=run.config.seed + 2, **how)  # type: ignore[arg-type]
        for pair in compare(made, seed=run.config.seed, per_prompt=config.per_prompt):
            paired.add(pair.prompt.id)
            seen["comparisons"] += 1
            yield pair

    write_records(run.records("compare"), in_parts(asked, compared))
    return {"comparisons": seen["comparisons"], "prompts_without_a_pair": len(asked) - len(paired)}


def judge_stage(run: Run) -> Metrics:
    """The AI judge labels the comparisons by principle."""
    config, ask, method, seen = run.config.judge, run.judge("judge"), method_of(run), Counter[str]()

    def judged(part: list[Comparison]) -> Iterator[Preference]:
        for made in judge(part, run.law, ask, method, principles=config.principles, combine=config.combine, seed=run.config.seed):
            seen["unscored" if made.p_first is None else "labels"] += 1
            seen["near_ties"] += made.p_first is not None and abs(made.p_first - 0.5) < 0.1
            yield made

    write_records(run.records("judge"), in_parts(stream_records(run.records("compare"), Comparison), judged))
    return {name: seen[name] for name in ("labels", "unscored", "near_ties")}


def method_of(run: Run) -> Method:
    """The reading method that the config names."""
    config = run.config.judge
    return method_named(
        config.method, seed=run.config.seed, both_orders=config.both_orders, fences=config.fences, samples=config.samples,
        shots=judge_shots(run.law, config.shots, run.config.seed),
    )  # fmt: skip


def audit_stage(run: Run) -> Metrics:
    """Look at the labels before anything is trained on them, and stop where they are not fit for it."""
    from cai.evaluate.audit import audit, failings
    from cai.evaluate.examples import examine, hostile, marks, questions

    config = run.config.audit
    figures = audit(read_records(run.records("judge"), Preference))
    asked = [*questions(run.law, run.config.seed), *hostile(run.law, run.config.seed)] if config.examples else []
    figures["examples"] = marks(examine(asked, method_of(run), run.judge("audit")))
    figures["human"] = _agreement(run) if config.human_pairs else {}
    figures["failings"] = failings(figures, figures["examples"], config.model_dump())
    write_json(run.stage_folder("audit") / "audit.json", figures)
    if figures["failings"] and config.gate:
        reasons = "\n".join(f"  {reason}" for reason in figures["failings"])
        raise RunFailed(
            f"the labels are not fit to train on:\n{reasons}\nsee {run.stage_folder('audit') / 'audit.json'}; to go on all the same: --set audit.gate=false"
        )
    return {
        "first_wins": figures["place"]["first_wins"]["value"], "longer_wins": figures["length"]["longer_wins"]["value"],
        "near_ties": figures["near_ties"]["value"], "examples_right": figures["examples"]["plain"]["value"],
        "hostile_flips": figures["examples"]["hostile_flips"]["value"], "failings": len(figures["failings"]),
    }  # fmt: skip


def _agreement(run: Run) -> Metrics:
    """The judge on comparisons that people have labelled; which answer stands first is keyed."""
    from cai.evaluate.agreement import agreement, matched
    from cai.keys import shuffled, uniform

    human, _ = _human(run)
    drawn = shuffled(human, run.config.seed, "agreement")[: run.config.audit.human_pairs]
    shown = [p.swap() if uniform(run.config.seed, "agreement order", p.id) < 0.5 else p for p in drawn]
    config = run.config.judge
    judged = judge(
        [p.comparison for p in shown], run.law, run.judge("audit"), method_of(run), principles=config.principles, combine=config.combine,
        seed=run.config.seed,
    )  # fmt: skip
    return agreement(matched(judged, shown), run.config.seed)


def reward(run: Run) -> Metrics:
    """Train the reward model on AI and human preferences together, starting from the SL-CAI policy."""
    from cai.evaluate.cells import check_cells
    from cai.train.ensemble import train_members

    preferences, skipped = _preferences(run)
    measured = train_members(preferences, str(run.checkpoint("sft")), run.checkpoint("reward"), run.config.reward, **_how(run, "reward"))
    sources = {s: sum(p.source == s for p in preferences) for s in sorted({p.source for p in preferences})}
    built = [p for name in run.config.reward.cells for p in read_preferences(run.path(name)).preferences]
    cells = (
        check_cells(str(run.checkpoint("reward")), built, least=run.config.reward.least_cell, style=run.config.models.style)
        if built
        else {}
    )
    return {**measured, "sources": sources, "skipped_human_rows": skipped} | ({"cells": cells} if cells else {})


def dpo(run: Run) -> Metrics:
    """Optimise the SL-CAI policy on the labels themselves, without a reward model."""
    from cai.train.dpo import train_dpo

    if not run.config.dpo.epochs:
        return {"pairs": 0}
    preferences, _ = _preferences(run)
    return dict(train_dpo(preferences, str(run.checkpoint("sft")), run.checkpoint("dpo"), run.config.dpo, **_how(run, "dpo")))


def ppo(run: Run) -> Metrics:
    """Optimise the SL-CAI policy against the reward model, under a KL penalty: RL-CAI."""
    from cai.evaluate.overoptimisation import parting
    from cai.keys import shuffled
    from cai.train.ppo import train_ppo
    from cai.train.scores import reward_scorer

    config, seed = run.config.ppo, run.config.seed
    if not config.updates:
        return {"updates": 0}
    red, benign = _prompts(run, RED), _prompts(run, BENIGN)
    # whole sets in keyed order, cut so that the shares are as asked
    share = config.benign_share
    count = int(min(len(red) / max(1 - share, 1e-9), len(benign) / max(share, 1e-9)))
    mixed = shuffled(red, seed, "ppo red")[: round(count * (1 - share))] + shuffled(benign, seed, "ppo benign")[: round(count * share)]
    policy, reward_model = str(run.checkpoint("sft")), str(run.checkpoint("reward"))
    held = [prompt for pair in zip_longest(_prompts(run, HELD_RED), _prompts(run, HELD_BENIGN)) for prompt in pair if prompt]
    asked = [*mixed, *held[: run.config.watch.prompts]]
    judged = _judged(run, asked, policy) if run.config.judge.direct else None
    metrics = train_ppo(
        mixed, policy, reward_model, run.checkpoint("ppo"), config, score=judged or reward_scorer(reward_model, run.config.reward.combine),
        watch=run.config.watch, held_out=held, gold=_goodness(run), keep_in_mind=_sft_rows(run) if config.ptx_coef else (),
        **_how(run, "ppo"),
    )  # fmt: skip
    parted = parting(metrics.get("looks", []))
    return dict(metrics) | ({"overoptimisation": parted} if parted else {}) | ({"unread": judged.unread} if judged else {})


def _goodness(run: Run) -> Callable[[Sequence[tuple[Prompt, str]]], list[float]] | None:
    """How good answers are by the gold function, where there is one: not harmful to red-team prompts, helpful to benign ones."""
    from cai.evaluate.policies import gold_of

    gold = gold_of(run)

    def goodness(answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        read = [(prompt, gold(prompt, text)) for prompt, text in answers] if gold else []
        return [float(not flags.get("harmful") if prompt.kind == HELD_RED else flags.get("helpful", False)) for prompt, flags in read]

    return goodness if gold else None


def _how(run: Run, stage: str) -> dict[str, Any]:
    """What all trainers are told alike."""
    from cai.train.engine import tracked

    log = tracked(run.log(stage), run.config.track, f"{run.folder.name}-{run.named(stage)}", run.folder)
    return {"training": run.config.training, "style": run.config.models.style, "seed": run.config.seed, "log": log}


def _judged(run: Run, prompts: list[Prompt], policy: str) -> JudgedScore:
    """The judge's own rating, by the principles and as many per answer as label a comparison."""
    from cai.train.judged import JudgedScore

    ask, config = run.judge("ppo", together=False), run.config

    def rated(answers: Sequence[tuple[Prompt, str]]) -> list[float | None]:
        return rate(answers, run.law, ask, scale=config.judge.scale, principles=config.judge.principles, seed=config.seed)

    return JudgedScore(prompts, policy, rated, config.models.style)


def evaluate(run: Run) -> Metrics:
    """Every policy answers the held-out prompts; rates, win rates, KL and reward of each."""
    from cai.evaluate.policies import evaluate_run

    metrics = evaluate_run(run)
    write_json(run.stage_folder("evaluate") / "evaluation.json", metrics)
    return metrics


def _prompts(run: Run, *kinds: str) -> list[Prompt]:
    return [p for p in read_records(run.records("prompts"), Prompt) if p.kind in kinds]


def _preferences(run: Run) -> tuple[list[Preference], dict[str, int]]:
    """AI labels of all rounds and human ones together, and how many human rows were left out for which reason."""
    human, skipped = _human(run)
    judged = [p for round in range(1, run.round + 1) for p in read_records(run.at(round).records("judge"), Preference)]
    return judged + human, skipped


def _human(run: Run) -> tuple[list[Preference], dict[str, int]]:
    preferences, skipped = list[Preference](), dict[str, int]()
    for name in run.config.reward.human:
        read = read_preferences(run.path(name))
        preferences += read.preferences
        skipped |= {f"{name}: {reason}": count for reason, count in read.counts.items()}
    return preferences, skipped


def _samples(run: Run, stage: str) -> list[Sample]:
    return read_records(run.records(stage), Sample)


def _helpful_rows(run: Run) -> list[tuple[Prompt, str]]:
    return [(s.prompt, s.response) for s in _samples(run, "sample") if s.prompt.kind == BENIGN and s.status == "ok"]


def _sft_rows(run: Run) -> list[tuple[Prompt, str]]:
    rows = training_rows(read_records(run.records("revise"), Revision), run.config.revise.rows)
    return rows + _helpful_rows(run) if run.config.sft.helpful else rows


def in_parts(items: Iterable[T], work: Callable[[list[T]], Iterable[U]]) -> Iterator[U]:
    """Work on some thousand items at a time, so that memory stays flat however many there are; what comes out is the same."""
    rest = iter(items)
    while part := list(islice(rest, PART)):
        yield from work(part)


def always(config: RunConfig) -> bool:
    """A stage that reads the constitution."""
    return True


def judged(config: RunConfig) -> bool:
    """PPO reads the constitution where the judge itself rewards."""
    return config.judge.direct


def prompt_files(config: RunConfig) -> tuple[str, ...]:
    sets = config.prompts
    return tuple(filter(None, (sets.red_team, sets.benign, sets.held_red_team, sets.held_benign)))


def human_files(config: RunConfig) -> tuple[str, ...]:
    return config.reward.human


def reward_files(config: RunConfig) -> tuple[str, ...]:
    return config.reward.human + config.reward.cells


STAGES: tuple[Stage, ...] = (
    Stage("prompts", "read the prompts", prompts, (), ("prompts",), reads=prompt_files),
    Stage("sample", "the initial policy answers", draft, ("prompts",), ("sample", "models")),
    Stage("revise", "critique and revise by principle", revise_stage, ("sample",), ("revise", "models"), uses_law=always),
    Stage("sft", "fine-tune on the revisions", sft, ("sample", "revise"), ("sft", "models", "revise", "training")),
    Stage("control", "fine-tune on helpful answers alone", control, ("sample",), ("sft", "models", "training")),
    Stage("compare", "the SL-CAI policy answers in pairs", compare_stage, ("prompts", "sft"), ("compare", "models")),
    Stage("judge", "the AI judge labels by principle", judge_stage, ("compare",), ("judge", "models"), uses_law=always),
    Stage(
        "audit",
        "look at the labels",
        audit_stage,
        ("judge",),
        ("audit", "judge", "models", "reward"),
        uses_law=always,
        reads=human_files,
        code=2,
    ),
    Stage("reward", "train the reward model", reward, ("judge", "sft"), ("reward", "models", "training"), reads=reward_files),
    Stage(
        "ppo",
        "optimise against the reward, with a KL penalty",
        ppo,
        ("prompts", "sample", "revise", "sft", "reward"),
        ("ppo", "watch", "models", "judge", "training"),
        uses_law=judged,
    ),
    Stage(
        "dpo",
        "optimise on the labels, without a reward model",
        dpo,
        ("judge", "sft"),
        ("dpo", "models", "reward", "training"),
        reads=human_files,
        round=0,
    ),
    Stage(
        "evaluate",
        "held-out prompts to every policy",
        evaluate,
        ("prompts", "sft", "control", "judge", "reward", "ppo", "dpo"),
        ("evaluate", "models", "judge"),
        uses_law=always,
        round=0,
    ),
)


def stages_of(config: RunConfig) -> tuple[Stage, ...]:
    """The stages of a run, those of a round once for each."""
    by_name = {stage.name: stage for stage in STAGES}
    once, rounds = [s for s in STAGES if s.round and s.name not in REPEATED], list[Stage]()
    for number in range(1, config.rounds + 1):
        names = {name: name if number == 1 else f"{name}-{number}" for name in REPEATED}
        judged = ["judge", *(f"judge-{n}" for n in range(2, number + 1))]
        inputs = {name: tuple(names.get(i, i) for i in by_name[name].inputs) for name in REPEATED}
        inputs["reward"] = (*judged, "sft")
        if number > 1:
            inputs["compare"] = ("prompts", "ppo" if number == 2 else f"ppo-{number - 1}")
        rounds += [replace(by_name[name], name=names[name], inputs=inputs[name], round=number) for name in REPEATED]
    last = {name: names[name] for name in REPEATED}
    at_the_end = {name: [last[name]] for name in REPEATED} | {"judge": judged}
    after = [replace(s, inputs=tuple(n for i in s.inputs for n in at_the_end.get(i, [i]))) for s in STAGES if s.round == 0]
    return (*once, *rounds, *after)
