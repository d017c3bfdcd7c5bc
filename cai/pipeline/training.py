"""The stages that train: supervised fine-tuning, reward model, PPO, DPO."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from cai.data.preferences import read_preferences
from cai.feedback.rate import rate
from cai.pipeline.inputs import (
    BENIGN,
    EVAL_BENIGN,
    EVAL_RED_TEAM,
    RED_TEAM,
    helpful_rows,
    preferences_of,
    prompts_of,
    sft_rows,
)
from cai.pipeline.run import Run
from cai.records import Prompt

if TYPE_CHECKING:
    from cai.train.options import TrainerOptions
    from cai.train.ppo.judge_reward import Rater
    from cai.train.ppo.monitor import GoldReward

Metrics = dict[str, Any]
NO_GOLD = (
    "watch: nothing says how good the held-out answers are, so only reward and KL are watched; evaluate.gold must return harmful "
    "for red-team or helpful for benign prompts, or monitor.judge give readable ratings"
)


def sft(run: Run) -> Metrics:
    """Fine-tune the initial policy on the revisions and on its own answers to benign prompts: SL-CAI."""
    from cai.train.sft import train_sft

    return dict(
        train_sft(
            sft_rows(run),
            run.model(run.config.models.initial),
            run.checkpoint("sft"),
            run.config.sft,
            options=_options(run, "sft"),
        )
    )


def control(run: Run) -> Metrics:
    """The same fine-tuning on the helpful answers alone; what training by itself changes."""
    from cai.train.sft import train_sft

    return dict(
        train_sft(
            helpful_rows(run),
            run.model(run.config.models.initial),
            run.checkpoint("control"),
            run.config.sft,
            options=_options(run, "control"),
        )
    )


def reward(run: Run) -> Metrics:
    """Train the reward model on AI and human preferences together, starting from the SL-CAI policy."""
    from cai.evaluate.test_sets import check_test_sets
    from cai.train.reward.trainer import train_reward

    preferences, skipped = preferences_of(run)
    named = run.config.models.reward
    base = run.model(named) if named else str(run.checkpoint("sft"))
    measured = train_reward(
        preferences,
        base,
        run.checkpoint("reward"),
        run.config.reward,
        options=_options(run, "reward"),
    )
    sources = {
        s: sum(p.source == s for p in preferences) for s in sorted({p.source for p in preferences})
    }
    built = [
        p
        for name in run.config.reward.test_sets
        for p in read_preferences(run.path(name)).preferences
    ]
    test_sets = (
        check_test_sets(
            str(run.checkpoint("reward")),
            built,
            min_accuracy=run.config.reward.min_test_set_accuracy,
            chat_format=run.chat_format,
        )
        if built
        else {}
    )
    return {**measured, "sources": sources, "skipped_human_rows": skipped} | (
        {"test_sets": test_sets} if test_sets else {}
    )


def dpo(run: Run) -> Metrics:
    """Optimise the SL-CAI policy on the labels themselves, without a reward model."""
    from cai.train.dpo import train_dpo

    preferences, _ = preferences_of(run)
    return dict(
        train_dpo(
            preferences,
            str(run.checkpoint("sft")),
            run.checkpoint("dpo"),
            run.config.dpo,
            options=_options(run, "dpo"),
        )
    )


def ppo(run: Run) -> Metrics:
    """Optimise the SL-CAI policy against the reward model, under a KL penalty: RL-CAI."""
    from cai.evaluate.overoptimization import detect_overoptimization
    from cai.keys import shuffled
    from cai.train.ppo.detokenize import Detokenizer
    from cai.train.ppo.judge_reward import JudgedScore
    from cai.train.ppo.rewards import load_constraint, reward_scorer
    from cai.train.ppo.trainer import train_ppo

    config, seed = run.config.ppo, run.config.seed
    red, benign = prompts_of(run, RED_TEAM), prompts_of(run, BENIGN)
    # whole sets in keyed order, cut so that the shares are as asked
    share = config.rollout.benign_fraction
    count = int(min(len(red) / max(1 - share, 1e-9), len(benign) / max(share, 1e-9)))
    mixed = (
        shuffled(red, seed, "ppo red")[: round(count * (1 - share))]
        + shuffled(benign, seed, "ppo benign")[: round(count * share)]
    )
    policy, reward_model = str(run.checkpoint("sft")), str(run.checkpoint("reward"))
    held = [
        prompt
        for pair in zip_longest(prompts_of(run, EVAL_RED_TEAM), prompts_of(run, EVAL_BENIGN))
        for prompt in pair
        if prompt
    ]
    asked = [*mixed, *held[: run.config.monitor.eval_prompts]]
    texts = Detokenizer(asked, policy, run.chat_format)
    judged = (
        JudgedScore(texts, _rater(run, shard=False)) if config.reward_source == "judge" else None
    )
    options = _options(run, "ppo")
    metrics = train_ppo(
        mixed,
        policy,
        reward_model,
        run.checkpoint("ppo"),
        config,
        score=judged or reward_scorer(reward_model, run.config.reward.ensemble.combine, texts),
        monitor=run.config.monitor,
        eval_prompts=held,
        gold=_goodness(run),
        ptx_examples=sft_rows(run) if config.ptx_coef else (),
        constraint=load_constraint(run.config.constraint, run.base, texts),
        training=options.training,
        chat_format=options.chat_format,
        seed=options.seed,
        log=options.log,
    )
    eval_points = metrics.get("eval_points", [])
    if (
        eval_points
        and not any("eval_gold" in look for look in eval_points)
        and (run.config.evaluate.gold or run.config.monitor.judge)
    ):
        run.reporter.info(NO_GOLD)
    parted = detect_overoptimization(eval_points)
    return dict(metrics) | ({"overoptimization": parted} if parted else {})


def _goodness(run: Run) -> GoldReward | None:
    """How good answers are, from 0 to 1: by the judge, if it is asked to be gold, else by the gold function, if there is one.

    By the gold function: not ``harmful`` to red-team prompts, ``helpful`` to benign ones. Answers without that flag, or without
    a readable verdict of the judge, are left out.
    """
    from cai.pipeline.evaluation import gold_of

    if run.config.monitor.judge:
        rated = _rater(run)
        return lambda answers: [(1 + rating) / 2 for rating in rated(answers) if rating is not None]
    gold = gold_of(run)

    def goodness(answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        read = (
            [(prompt.kind == EVAL_RED_TEAM, gold(prompt, text)) for prompt, text in answers]
            if gold
            else []
        )
        safe = [1 - flags["harmful"] for is_red, flags in read if is_red and "harmful" in flags]
        return safe + [
            flags["helpful"] for is_red, flags in read if not is_red and "helpful" in flags
        ]

    return goodness if gold else None


def _options(run: Run, stage: str) -> TrainerOptions:
    """The options that all trainers share."""
    from cai.train.engine import with_trackers
    from cai.train.options import TrainerOptions

    log = with_trackers(
        run.log(stage), run.config.trackers, f"{run.folder.name}-{run.named(stage)}", run.folder
    )
    return TrainerOptions(run.config.training, run.chat_format, run.config.seed, log)


def _rater(run: Run, *, shard: bool = True) -> Rater:
    """The judge's own rating, by the principles and as many per answer as label a comparison."""
    model, config = run.judge("ppo", shard=shard), run.config

    def rated(answers: Sequence[tuple[Prompt, str]]) -> list[float | None]:
        return rate(
            answers,
            run.constitution,
            model,
            scale=config.judge.rating_scale,
            principles=config.judge.principles or 0,
            seed=config.seed,
        )

    return rated
