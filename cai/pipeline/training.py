"""The stages that train: supervised fine-tuning, reward model, PPO, DPO."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from cai.data.preferences import read_preferences
from cai.feedback.rate import rate
from cai.pipeline.rows import BENIGN, HELD_BENIGN, HELD_RED, RED, helpful_rows, preferences_of, prompts_of, sft_rows
from cai.pipeline.run import Run
from cai.records import Prompt

if TYPE_CHECKING:
    from cai.train.judged import Rate
    from cai.train.watching import Gold

Metrics = dict[str, Any]
NO_GOLD = (
    "watch: nothing says how good the held-out answers are, so only reward and KL are watched; evaluate.gold must return harmful "
    "for red-team or helpful for benign prompts, or watch.judge give readable ratings"
)


def sft(run: Run) -> Metrics:
    """Fine-tune the initial policy on the revisions and on its own answers to benign prompts: SL-CAI."""
    from cai.train.sft import train_sft

    return dict(train_sft(sft_rows(run), run.model(run.config.models.initial), run.checkpoint("sft"), run.config.sft, **_how(run, "sft")))


def control(run: Run) -> Metrics:
    """The same fine-tuning on the helpful answers alone; what training by itself changes."""
    from cai.train.sft import train_sft

    if not run.config.sft.control:
        return {"rows": 0}
    return dict(train_sft(helpful_rows(run), run.model(run.config.models.initial), run.checkpoint("control"), run.config.sft, **_how(run, "control")))


def reward(run: Run) -> Metrics:
    """Train the reward model on AI and human preferences together, starting from the SL-CAI policy."""
    from cai.evaluate.cells import check_cells
    from cai.train.ensemble import train_members

    preferences, skipped = preferences_of(run)
    named = run.config.models.reward
    base = run.model(named) if named else str(run.checkpoint("sft"))
    measured = train_members(preferences, base, run.checkpoint("reward"), run.config.reward, **_how(run, "reward"))
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
    preferences, _ = preferences_of(run)
    return dict(train_dpo(preferences, str(run.checkpoint("sft")), run.checkpoint("dpo"), run.config.dpo, **_how(run, "dpo")))


def ppo(run: Run) -> Metrics:
    """Optimise the SL-CAI policy against the reward model, under a KL penalty: RL-CAI."""
    from cai.evaluate.overoptimisation import parting
    from cai.keys import shuffled
    from cai.train.judged import JudgedScore
    from cai.train.ppo import train_ppo
    from cai.train.scores import guard_of, reward_scorer
    from cai.train.texts import Texts

    config, seed = run.config.ppo, run.config.seed
    if not config.updates:
        return {"updates": 0}
    red, benign = prompts_of(run, RED), prompts_of(run, BENIGN)
    # whole sets in keyed order, cut so that the shares are as asked
    share = config.benign_share
    count = int(min(len(red) / max(1 - share, 1e-9), len(benign) / max(share, 1e-9)))
    mixed = shuffled(red, seed, "ppo red")[: round(count * (1 - share))] + shuffled(benign, seed, "ppo benign")[: round(count * share)]
    policy, reward_model = str(run.checkpoint("sft")), str(run.checkpoint("reward"))
    held = [prompt for pair in zip_longest(prompts_of(run, HELD_RED), prompts_of(run, HELD_BENIGN)) for prompt in pair if prompt]
    asked = [*mixed, *held[: run.config.watch.prompts]]
    texts = Texts(asked, policy, run.config.models.style)
    judged = JudgedScore(texts, _rater(run, together=False)) if run.config.judge.direct else None
    metrics = train_ppo(
        mixed, policy, reward_model, run.checkpoint("ppo"), config, score=judged or reward_scorer(reward_model, run.config.reward.combine, texts),
        watch=run.config.watch, held_out=held, gold=_goodness(run), keep_in_mind=sft_rows(run) if config.ptx_coef else (),
        guard=guard_of(run.config.guard, run.base, texts), **_how(run, "ppo"),
    )  # fmt: skip
    looks = metrics.get("looks", [])
    if looks and not any("held_gold" in look for look in looks) and (run.config.evaluate.gold or run.config.watch.judge):
        run.screen.note(NO_GOLD)
    parted = parting(looks)
    return dict(metrics) | ({"overoptimisation": parted} if parted else {})


def _goodness(run: Run) -> Gold | None:
    """How good answers are, from 0 to 1: by the judge, if it is asked to be gold, else by the gold function, if there is one.

    By the gold function: not ``harmful`` to red-team prompts, ``helpful`` to benign ones. Answers without that flag, or without
    a readable verdict of the judge, are left out.
    """
    from cai.evaluate.policies import gold_of

    if run.config.watch.judge:
        rated = _rater(run)
        return lambda answers: [(1 + rating) / 2 for rating in rated(answers) if rating is not None]
    gold = gold_of(run)

    def goodness(answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        read = [(prompt.kind == HELD_RED, gold(prompt, text)) for prompt, text in answers] if gold else []
        safe = [1 - flags["harmful"] for is_red, flags in read if is_red and "harmful" in flags]
        return safe + [flags["helpful"] for is_red, flags in read if not is_red and "helpful" in flags]

    return goodness if gold else None


def _how(run: Run, stage: str) -> dict[str, Any]:
    """What all trainers are told alike."""
    from cai.train.engine import tracked

    log = tracked(run.log(stage), run.config.track, f"{run.folder.name}-{run.named(stage)}", run.folder)
    return {"training": run.config.training, "style": run.config.models.style, "seed": run.config.seed, "log": log}


def _rater(run: Run, *, together: bool = True) -> Rate:
    """The judge's own rating, by the principles and as many per answer as label a comparison."""
    ask, config = run.judge("ppo", together=together), run.config

    def rated(answers: Sequence[tuple[Prompt, str]]) -> list[float | None]:
        return rate(answers, run.law, ask, scale=config.judge.scale, principles=config.judge.principles, seed=config.seed)

    return rated
