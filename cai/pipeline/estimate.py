"""``--dry-run``: the calls and tokens a run would cost at most, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cai.backends.budget import Budget
from cai.config import RunConfig
from cai.constitution.schema import Constitution
from cai.data.prompts import read_prompts
from cai.feedback.judge_methods import ChainOfThought, SampledVotes
from cai.records import Prompt

TOKENS_PER_WORD = 1.4
"""A rough figure for English text; the memo counts exactly once a run is made."""


class Cost(NamedTuple):
    """What one stage asks for."""

    stage: str
    requests: int
    tokens_in: int
    tokens_out: int  # at most


def estimate(
    config: RunConfig, constitution: Constitution, base: Path, budget: Budget | None = None
) -> str:
    """A table of what each stage would ask of a model if nothing were remembered."""
    rows = costs(config, constitution, base)
    total = Cost(
        "all",
        sum(r.requests for r in rows),
        sum(r.tokens_in for r in rows),
        sum(r.tokens_out for r in rows),
    )
    priced = budget is not None and (budget.price_in or budget.price_out)
    lines = [
        f"{'stage':<10}{'requests':>10}{'tokens read':>14}{'tokens written':>18}{'price' if priced else '':>12}"
    ]
    for r in (*rows, total):
        money = (
            f"{'<= ' + format(budget.cost(r.tokens_in, r.tokens_out), ',.2f'):>12}"
            if budget and priced
            else ""
        )
        lines.append(
            f"{r.stage:<10}{r.requests:>10,}{r.tokens_in:>14,}{'<= ' + format(r.tokens_out, ','):>18}{money}"
        )
    lines.append(
        "tokens are estimated from words; answered calls of an earlier run are not taken off"
    )
    return "\n".join(lines)


def costs(config: RunConfig, constitution: Constitution, base: Path) -> list[Cost]:
    """The cost of each stage that calls a model by way of the memo."""
    p = config.prompts

    def read(name: str | None, limit: int | None) -> list[Prompt]:
        return read_prompts(base / name, "", limit or 0) if name else []

    red, benign = read(p.red_team, p.red_team_limit), read(p.benign, p.benign_limit)
    held = read(p.eval_red_team, p.eval_limit) + read(p.eval_benign, p.eval_limit)
    prompt_tokens = {
        name: _mean_tokens(found)
        for name, found in (("all", red + benign), ("red", red), ("held", held))
    }
    request = _text_tokens(
        [t for r in constitution.principles.values() for t in (r.critique, r.revise) if t]
    )
    answer, rounds = (
        config.sample.max_tokens,
        config.revise.rounds * (1 if config.revise.direct else 2),
    )
    pairs = (len(red) + len(benign)) * config.compare.pairs_per_prompt * config.iterations
    drawn = (
        1
        if config.judge.combine == "together"
        else config.judge.principles or len(constitution.used_for("judge"))
    )
    eval_points, said = _looks(config)
    shown = answer if config.judge.method == "critique" else 2 * answer
    policies, rivals = 4 if config.sft.control else 3, 3 if config.sft.control else 2
    judged = rivals * len(held) * 2 * eval_points
    made = (
        (len(red) + len(benign))
        * (config.compare.samples + config.compare.initial_samples)
        * config.iterations
    )
    return [
        _cost("sample", len(red) + len(benign), prompt_tokens["all"], answer),
        _cost(
            "revise",
            len(red) * rounds,
            prompt_tokens["red"] + answer + 1.5 * request,
            config.revise.max_tokens,
        ),
        _cost("compare", made, prompt_tokens["all"], config.compare.max_tokens),
        _cost("judge", pairs * drawn * eval_points, prompt_tokens["all"] + shown + request, said),
        _cost(
            "ppo",
            _ratings(config, min(len(held), config.monitor.eval_prompts)) * drawn,
            prompt_tokens["all"] + answer + request,
            1,
        ),
        _cost("evaluate", policies * len(held), prompt_tokens["held"], config.evaluate.max_tokens),
        _cost("", judged, prompt_tokens["held"] + shown + request, said),
    ]


def _looks(config: RunConfig) -> tuple[int, int]:
    """How many calls one reading takes, and the tokens each writes at most."""
    if config.judge.method == "option_logprobs":
        return 1 + config.judge.swap_positions, 1
    if config.judge.method == "critique":
        return 2, 1
    method = (
        SampledVotes(samples=config.judge.samples or 4)
        if config.judge.method == "sampled_votes"
        else ChainOfThought(samples=config.judge.samples or 1)
    )
    return 2 * method.samples, method.max_tokens


def _ratings(config: RunConfig, held: int) -> int:
    """Answers that PPO has rated by the judge: all of them where it is the reward, those of the looks where it is gold."""
    monitor, ppo = config.monitor, config.ppo
    if "ppo" not in config.algorithms:
        return 0
    eval_points = 1 + ppo.num_updates // monitor.eval_every if monitor.eval_every else 0
    rewarded = 0
    if ppo.reward_source == "judge":
        rewarded = ppo.num_updates * ppo.rollout.batch_size + eval_points * held
    return config.iterations * (rewarded + (eval_points * held if monitor.judge else 0))


def _cost(stage: str, requests: int, tokens_in: float, tokens_out: int) -> Cost:
    return Cost(stage, requests, round(requests * tokens_in), requests * tokens_out)


def _mean_tokens(prompts: list[Prompt]) -> float:
    return _text_tokens([" ".join(m.content for m in prompt.messages) for prompt in prompts])


def _text_tokens(texts: list[str]) -> float:
    return TOKENS_PER_WORD * sum(len(text.split()) for text in texts) / max(1, len(texts))
