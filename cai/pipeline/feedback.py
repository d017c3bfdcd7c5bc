"""The stages that ask models: sample, revise, compare, judge, and the audit of the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from cai.data.prompts import by_kind, read_prompts
from cai.errors import RunFailed
from cai.feedback.compare import compare
from cai.feedback.judge import judge
from cai.feedback.readings import Method, method_named
from cai.feedback.revise import revise
from cai.feedback.sample import sample
from cai.feedback.shots import judge_shots
from cai.files import read_records, stream_records, write_json, write_records
from cai.pipeline.held_out import held_out_notes, repeats
from cai.pipeline.rows import BENIGN, HELD_BENIGN, HELD_RED, RED, human_preferences, prompts_of
from cai.pipeline.run import Run
from cai.records import Comparison, Preference, Prompt, Revision, Sample

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
        (RED, config.red_team, config.red_team_limit), (BENIGN, config.benign, config.benign_limit),
        (HELD_RED, config.held_red_team, config.held_limit), (HELD_BENIGN, config.held_benign, config.held_limit),
    )  # fmt: skip
    for kind, name, limit in wanted:
        if name:
            for prompt in read_prompts(run.path(name), kind, limit):
                repeated.update([kind] if prompt.id in found else [])
                found.setdefault(prompt.id, prompt)
    write_records(run.records("prompts"), found.values())
    counts = {kind: len(by_kind(list(found.values()), kind)) for kind, _, _ in wanted}
    figures = {**counts, "in_an_earlier_set": repeated.total(), "repeated": dict(repeated)}
    notes = [repeats(kind, count, counts[kind]) for kind, count in repeated.items()]
    for note in dict.fromkeys([*notes, *held_out_notes(run.config, figures)]):
        run.screen.note(note)
    return figures


def draft(run: Run) -> Metrics:
    """The initial policy answers: red-team prompts to be revised, benign ones for the helpfulness mix."""
    config, asked, statuses = run.config.sample, prompts_of(run, RED, BENIGN), Counter[str]()
    ask = run.ask(run.model(run.config.models.initial), "sample", run.config.models.style)

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


def compare_stage(run: Run) -> Metrics:
    """The policy so far answers every prompt several times; pairs are made of different answers."""
    config, models, seen = run.config.compare, run.config.models, Counter[str]()
    asked = prompts_of(run, RED, BENIGN)
    name, policy = (
        ("sl_cai", run.checkpoint("sft")) if run.round == 1 else (f"rl_cai_{run.round - 1}", run.at(run.round - 1).checkpoint("ppo"))
    )
    ask, ask_initial = run.ask(str(policy), "compare", models.style), run.ask(run.model(models.initial), "compare", models.style)
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
    if config.human_pairs and not figures["human"]["n"]:
        run.screen.note("audit.human_pairs: no comparison has both a human label and one of the judge; add some in reward.human")
    figures["failings"] = failings(figures, figures["examples"], config.model_dump())
    write_json(run.stage_folder("audit") / "audit.json", figures)
    if figures["failings"] and config.gate:
        reasons = "\n".join(f"  {reason}" for reason in figures["failings"])
        raise RunFailed(
            f"the labels are not fit to train on:\n{reasons}\nsee {run.stage_folder('audit') / 'audit.json'}; to go on all the same: --set audit.gate=false"
        )
    shares = {
        "first_wins": figures["place"]["first_wins"], "longer_wins": figures["length"]["longer_wins"], "near_ties": figures["near_ties"],
        "examples_right": figures["examples"]["plain"], "hostile_flips": figures["examples"]["hostile_flips"],
    }  # fmt: skip
    return {name: share["value"] for name, share in shares.items() if share["n"]} | {"failings": len(figures["failings"])}


def _agreement(run: Run) -> Metrics:
    """The judge on comparisons that people have labelled; which answer stands first is keyed."""
    from cai.evaluate.agreement import agreement, matched
    from cai.keys import shuffled, uniform

    human, _ = human_preferences(run)
    drawn = shuffled(human, run.config.seed, "agreement")[: run.config.audit.human_pairs]
    shown = [p.swap() if uniform(run.config.seed, "agreement order", p.id) < 0.5 else p for p in drawn]
    config = run.config.judge
    judged = judge(
        [p.comparison for p in shown], run.law, run.judge("audit"), method_of(run), principles=config.principles, combine=config.combine,
        seed=run.config.seed,
    )  # fmt: skip
    return agreement(matched(judged, shown), run.config.seed)


def in_parts(items: Iterable[T], work: Callable[[list[T]], Iterable[U]]) -> Iterator[U]:
    """Work on some thousand items at a time, so that memory stays flat however many there are; what comes out is the same."""
    rest = iter(items)
    while part := list(islice(rest, PART)):
        yield from work(part)
