"""The cell check: does a reward model order built pairs rightly in every corner, before a policy is optimised against it?

A model that has only learnt to like refusals looks well in the loss and in held-out accuracy, and shows where harmful and benign
requests meet complying and refusing answers; so may any other two attributes. Each pair says in its source which cell it is of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from cai.errors import RunFailed
from cai.evaluate.statistics import mean
from cai.models.scalar import load_scalar_model
from cai.records import Preference
from cai.train.ppo.rewards import ensemble_paths
from cai.train.reward.trainer import score_texts


def check_test_sets(
    reward_name: str, pairs: Sequence[Preference], *, least: float = 0.0, chat_format: str = ""
) -> dict[str, dict[str, float]]:
    """Per cell its pairs ``n``, the share ``right`` and the mean ``lead`` of the better answer's score, by all members of an ensemble.

    Raises:
        RunFailed: naming the cells in which less than the share ``least`` is right.
    """
    texts = [
        (p.comparison.prompt, text)
        for p in pairs
        for text in (p.comparison.first, p.comparison.second)
    ]
    members = [
        score_texts(load_scalar_model(name), texts, chat_format)
        for name in ensemble_paths(reward_name)
    ]
    scores = torch.stack(members).mean(0).view(-1, 2)
    leads: dict[str, list[float]] = defaultdict(list)
    for pair, (first, second) in zip(pairs, scores.tolist(), strict=True):
        if pair.p_first is not None and pair.p_first != 0.5:
            leads[pair.source].append(first - second if pair.p_first > 0.5 else second - first)
    test_sets = {
        name: {
            "n": len(found),
            "right": mean([0.5 if lead == 0 else float(lead > 0) for lead in found]),
            "lead": mean(found),
        }
        for name, found in sorted(leads.items())
    }
    if bad := [
        f"{name}: {test_set['right']:.0%} of {test_set['n']} right"
        for name, test_set in test_sets.items()
        if test_set["right"] < least
    ]:
        raise RunFailed(
            "the reward model fails the cell check, so optimising against it would go wrong there:\n"
            + "\n".join(bad)
            + "\nto go on all the same: --set reward.min_test_set_accuracy=0"
        )
    return test_sets
