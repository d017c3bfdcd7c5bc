"""``cai try``: one prompt, live."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from cai.backends import open_backend
from cai.backends.response_cache import ResponseCache
from cai.cli.reporter import safe
from cai.constitution import load_constitution
from cai.errors import InputError, Problem, did_you_mean
from cai.feedback.judge import judge
from cai.feedback.judge_methods import CritiqueOdds
from cai.feedback.revise import revise
from cai.feedback.sample import sample
from cai.records import Comparison, Prompt


def try_prompt(text: str, constitution: str, model: str, pattern: str, seed: int) -> None:
    """Answer, criticise, revise, judge; print each as it comes."""
    loaded = load_constitution(constitution)
    chosen = fnmatch.filter(sorted(loaded.principles), pattern or "*")
    if not chosen:
        raise InputError(
            [
                Problem(
                    pattern,
                    f"matches no principle of {constitution}{did_you_mean(pattern, loaded.principles)}",
                )
            ]
        )
    loaded = loaded.without(*(name for name in loaded.principles if name not in chosen))
    with ResponseCache(Path(":memory:")) as cache:
        client = cache.cached_model(open_backend(model), "try")
        answer = sample([Prompt.of(text)], client, seed=seed)[0]
        print(f"answer      {safe(answer.response)}")
        if not loaded.used_for("revise"):
            raise InputError([Problem(pattern, "none of these principles has texts for revising")])
        revision = revise([answer], loaded, client, rounds=1, seed=seed)
        if not revision:
            print("the model gave no usable answer")
            return
        step = revision[0].steps[0]
        print(f"principle   {step.principle}: {loaded.principles[step.principle].title}")
        print(f"critique    {safe(step.critique)}")
        print(f"revision    {'(unchanged)' if step.unchanged else safe(step.revision)}")
        comparison = Comparison.of(answer.prompt, step.revision, answer.response)
        verdict = judge(
            [comparison], loaded, client, CritiqueOdds(), principles=0, combine="sum", seed=seed
        )[0]
        print(
            f"judge       the revision is the better answer with probability {verdict.p_first:.2f}"
            if verdict.p_first is not None
            else "judge       unscored"
        )
