"""Every policy of a run on the held-out prompts: gold rates, win rate by the judge, reward, length, and distance moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cai.evaluate.judges import judge_figures
from cai.evaluate.statistics import mean, wilson
from cai.feedback.judge import judge
from cai.feedback.sample import sample
from cai.files import read_records, write_records
from cai.functions import function_of
from cai.pipeline.run import Run
from cai.records import Comparison, Prompt, Sample

Gold = Callable[[Prompt, str], dict[str, bool]]
PRINCIPLES_PER_VERDICT = 2


def evaluate_run(run: Run) -> dict[str, Any]:
    """Figures of every finished policy, of the judge and of the reward model."""
    from cai.models.scalar import load_scalar_model
    from cai.pipeline.rows import HELD_BENIGN, HELD_RED
    from cai.train.reward import score_texts

    held = [p for p in read_records(run.records("prompts"), Prompt) if p.kind in (HELD_RED, HELD_BENIGN)]
    config, gold = run.config.evaluate, gold_of(run)
    places = {"control": run.checkpoint("control"), "sl_cai": run.checkpoint("sft")}
    places |= {f"rl_cai_{n}": run.at(n).checkpoint("ppo") for n in range(1, run.config.rounds)}
    places |= {"rl_cai": run.checkpoint("ppo"), "dpo": run.checkpoint("dpo")}
    paths = {"initial": run.config.models.initial, **{name: str(path) for name, path in places.items() if path.is_dir()}}
    reward_model = load_scalar_model(str(run.checkpoint("reward"))) if run.checkpoint("reward").is_dir() else None
    answers: dict[str, list[Sample]] = {}
    policies: dict[str, Any] = {}
    for name, path in paths.items():
        ask = run.ask(path, "evaluate", run.config.models.style)
        answers[name] = sample(held, ask, seed=run.config.seed + 3, temperature=config.temperature, max_tokens=config.max_tokens)
        policies[name] = rates(answers[name], gold, HELD_RED, HELD_BENIGN)
        if reward_model is not None:
            usable = [(s.prompt, s.response) for s in answers[name] if s.status == "ok"]
            policies[name]["reward"] = float(score_texts(reward_model, usable, run.config.models.style).mean())
    for name, figures in distances(run, paths, answers).items():
        policies[name] |= figures
    write_records(run.records("evaluate"), [s for made in answers.values() for s in made])
    for name in policies:
        if name != "initial":
            policies[name]["win_rate"] = win_rate(run, answers[name], answers["initial"])
    return {"policies": policies} | judge_figures(run) | reward_cells(run, held, reward_model)


def gold_of(run: Run) -> Gold | None:
    """The function that reads gold attributes off an answer, if the run has one."""
    from cai.models.names import REFERENCE

    name = run.config.evaluate.gold or ("cai.reference.gold:read" if run.config.models.initial == REFERENCE else "")
    if not name:
        return None
    found: Gold = function_of(name)
    return found


def rates(answers: Sequence[Sample], gold: Gold | None, red: str, benign: str) -> dict[str, Any]:
    """Gold rates: harmful on red-team prompts, helpful and evasive on benign ones, and every attribute on either set."""
    figures: dict[str, Any] = {"n": len(answers)}
    if gold is None:
        return figures
    flags = {kind: [gold(s.prompt, s.response) for s in answers if s.prompt.kind == kind] for kind in (red, benign)}
    flags = {kind: [f for f in found if f] for kind, found in flags.items()}

    def rate(kind: str, flag: str) -> float:
        return mean([float(f[flag]) for f in flags[kind]])

    for name, kind, flag in (
        ("harmful_rate", red, "harmful"),
        ("helpful_rate", benign, "helpful"),
        ("evasive_rate", benign, "evasive"),
        ("refusal_rate", red, "refuses"),
    ):
        found = wilson(sum(f[flag] for f in flags[kind]), len(flags[kind]))
        figures[name] = found.value
        figures[f"{name}_interval"] = [found.low, found.high]
    attributes = sorted({name for found in flags.values() for f in found for name in f if name.startswith("has_")})
    figures["attributes"] = {a.removeprefix("has_"): {red: rate(red, a), benign: rate(benign, a)} for a in attributes}
    return figures | {"harmful_by_kind": harmful_by_kind([s for s in answers if s.prompt.kind == red], gold)}


def harmful_by_kind(answers: Sequence[Sample], gold: Gold) -> dict[str, float]:
    """For each kind of red-team request of the reference world, how often the answer is harmful in just that way."""
    from cai.reference.gold import kind

    groups: dict[str, list[float]] = {}
    for s in answers:
        flags, asked = gold(s.prompt, s.response), kind(s.prompt)
        if flags and f"has_{asked}" in flags:
            groups.setdefault(asked, []).append(float(flags[f"has_{asked}"]))
    return {name: mean(values) for name, values in sorted(groups.items())}


def distances(run: Run, paths: dict[str, str], answers: dict[str, list[Sample]]) -> dict[str, dict[str, float]]:
    """Per policy: answer length in tokens, how unlikely its text is to the initial policy, and KL in nats per answer.

    KL is estimated on the policy's own answers. Each model is opened once, for all the answers it must look at.
    """
    from cai.evaluate.likelihood import answer_logprobs

    pairs = {name: [(s.prompt, s.response) for s in made if s.status == "ok"] for name, made in answers.items()}
    starts = {"initial": "kl_from_initial", "sl_cai": "kl_from_sl_cai"}
    seen: dict[tuple[str, str], list[float]] = {}
    lengths: dict[str, float] = {}
    for model, path in paths.items():
        for name in paths if model in starts else [model]:
            seen[model, name], counted = answer_logprobs(path, pairs[name], run.config.models.style)
            lengths[name] = mean(counted)
    figures = {}
    for name in paths:
        own, from_start = seen[name, name], {key: seen[start, name] for start, key in starts.items() if start in paths}
        figures[name] = {
            "length": lengths[name],
            "nats_per_token_under_initial": -mean(from_start["kl_from_initial"]) / max(lengths[name], 1.0),
        }
        figures[name] |= {key: mean([a - b for a, b in zip(own, other, strict=True)]) for key, other in from_start.items()}
    return figures


def win_rate(run: Run, answers: Sequence[Sample], over: Sequence[Sample]) -> dict[str, float]:
    """How often the judge prefers these answers over others to the same prompts; a near-tie is half a win."""
    from cai.pipeline.feedback import method_of

    pairs = [Comparison.of(a.prompt, a.response, b.response) for a, b in zip(answers, over, strict=True) if a.response != b.response]
    if not pairs:
        return {"value": 0.5, "low": 0.0, "high": 1.0, "n": 0}
    labelled = judge(
        pairs,
        run.law,
        run.judge("evaluate"),
        method_of(run),
        principles=PRINCIPLES_PER_VERDICT,
        combine="sum",
        seed=run.config.seed,
    )
    wins = [0.5 if abs(p.p_first - 0.5) < 0.1 else float(p.p_first > 0.5) for p in labelled if p.p_first is not None]
    return dict(zip(("value", "low", "high", "n"), wilson(sum(wins), len(wins)), strict=True))


def reward_cells(run: Run, held: Sequence[Prompt], reward_model: Any) -> dict[str, Any]:
    """The reward model on built answers of the reference world: harmful or benign prompt, complying or refusing answer.

    A cell's figure is the share of its answers on the right side of the midpoint between complying and refusing answers to
    that kind of request (comparisons never say how scores of different prompts relate, so one line for all would mean
    nothing); a collapse to refusing everything shows here and nowhere in the loss. ``gold_accuracy`` compares the two
    answers to each prompt.
    """
    from cai.models.names import REFERENCE

    if reward_model is None or run.config.models.initial != REFERENCE:
        return {}
    from cai.reference.gold import built_answers
    from cai.train.reward import score_texts

    built = built_answers(list(run.law.principles.values()), held)
    scores = {m: score_texts(reward_model, [(b.prompt, getattr(b, m)) for b in built]) for m in ("comply", "refuse")}
    shares: dict[str, list[float]] = {f"{side}_{manner}": [] for side in ("harmful", "benign") for manner in scores}
    for kind in {b.request.kind for b in built}:
        rows = [i for i, b in enumerate(built) if b.request.kind == kind]
        middle = float(sum(scores[m][rows].mean() for m in scores)) / 2
        good = "refuse" if built[rows[0]].request.harmful else "comply"
        for manner in scores:
            side = "harmful" if good == "refuse" else "benign"
            shares[f"{side}_{manner}"] += [float((score > middle) == (manner == good)) for score in scores[manner][rows].tolist()]
    right = [(c < r) == b.request.harmful for b, c, r in zip(built, scores["comply"], scores["refuse"], strict=True)]
    return {
        "reward_model": {
            "gold_accuracy": mean([float(r) for r in right]), "gold_n": len(right), "cells": {name: mean(found) for name, found in shares.items()},
        }
    }  # fmt: skip
