"""Test sets of a reward model: does it order built pairs rightly before a policy is optimized?

A reward model that has only learned to like refusals looks good by its loss and its held-out
accuracy. It fails where harmful and benign requests meet complying and refusing answers; the same
holds for any other two attributes. The source of each pair names the test set that it belongs to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from cai.errors import RunFailed
from cai.evaluate.reward_scores import reward_scores
from cai.evaluate.statistics import mean
from cai.records import Preference


def check_test_sets(
    reward_name: str,
    pairs: Sequence[Preference],
    *,
    min_accuracy: float = 0.0,
) -> dict[str, dict[str, float]]:
    """Measure a reward model on test sets, and stop if it fails one.

    Args:
        reward_name: The reward model; the members of an ensemble are averaged.
        pairs: Built pairs with their labels.
        min_accuracy: Share of the pairs that must be right in each test set.

    Returns:
        For each test set the number of pairs ``n``, the share that is ``right``, and the mean
        ``lead`` of the better answer's score.

    Raises:
        RunFailed: If the reward model fails a test set.
    """
    texts = []
    for pair in pairs:
        texts.append((pair.comparison.prompt, pair.comparison.first))
        texts.append((pair.comparison.prompt, pair.comparison.second))
    scores = reward_scores(reward_name, texts).view(-1, 2)
    leads: dict[str, list[float]] = defaultdict(list)
    for pair, (first, second) in zip(pairs, scores.tolist(), strict=True):
        if pair.p_first is not None and pair.p_first != 0.5:
            leads[pair.source].append(first - second if pair.p_first > 0.5 else second - first)
    test_sets = {}
    for name, of_set in sorted(leads.items()):
        right = [0.5 if lead == 0 else float(lead > 0) for lead in of_set]
        test_sets[name] = {"n": len(of_set), "right": mean(right), "lead": mean(of_set)}
    failures = [
        f"{name}: {test_set['right']:.0%} of {test_set['n']} right"
        for name, test_set in test_sets.items()
        if test_set["right"] < min_accuracy
    ]
    if failures:
        raise RunFailed(
            "the reward model fails a test set, so a policy would learn the wrong thing there:\n"
            + "\n".join(failures)
            + "\nto continue anyway: --set reward.min_test_set_accuracy=0"
        )
    return test_sets
