"""A reward model that pays for an answer's dress is found out, and can be taught not to."""

import pytest
import torch
from test_training import PROMPTS

from cai.config import Reward
from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer
from cai.records import Comparison, Preference
from cai.train.reward.format_bias import STYLES, format_bias_metrics, style_ties
from cai.train.reward.trainer import train_reward

KIND, RUDE = "I am glad to help. Here is how.", "You are a fool. Go away."


def labels(better=lambda text: text):
    """Kind answers are better; what they wear is up to ``better``."""
    return [
        Preference(
            id=str(i), comparison=Comparison.of(p, better(KIND), RUDE), p_first=0.9, source="ai"
        )
        for i, p in enumerate(PROMPTS)
    ]


def test_the_ways_leave_what_is_said_as_it_is():
    for way in STYLES.values():
        said = way(KIND)
        assert said != KIND and all(
            sentence in said for sentence in ("I am glad to help.", "Here is how.")
        )


CONFIG = Reward(epochs=14, batch_size=8, learning_rate=3e-3, eval_fraction=0.3)


@pytest.mark.parametrize("way", ["bold", "heading"])
def test_a_liking_for_dress_is_taught_away(tiny, tmp_path, way):
    vain, taught = (
        train_reward(
            labels(STYLES[way]),
            tiny,
            tmp_path / str(share),
            CONFIG.model_copy(update={"format_augmentation": share}),
        )["format_bias"][way]["shift"]
        for share in (0.0, 1.0)
    )
    assert vain > 0.5 and abs(taught) < 0.3 * vain


def test_labels_that_dress_turns_round_are_counted(tiny, tmp_path):
    told = labels(
        STYLES["bold"]
    )  # and where nothing else tells them apart, the dressed one is better
    told += [
        Preference(
            id=f"{p.id}b",
            comparison=Comparison.of(p.comparison.prompt, STYLES["bold"](RUDE), RUDE),
            p_first=0.8,
            source="ai",
        )
        for p in told
    ]
    metrics = train_reward(told, tiny, tmp_path / "r", CONFIG)
    assert (
        set(metrics["format_bias"]) == set(STYLES) and metrics["format_bias"]["bold"]["flipped"] > 0
    )
    assert metrics["format_bias_max_flipped"] == max(
        way["flipped"] for way in metrics["format_bias"].values()
    )


def test_the_even_labels_are_keyed_one_a_prompt_and_survive_a_least_margin(tiny, tmp_path):
    told = labels()
    even = style_ties(told, 1.0, 0)
    assert [p.comparison.prompt.id for p in even] == [
        p.comparison.prompt.id for p in reversed(told)
    ] and even == style_ties(told, 1.0, 0)
    assert {p.p_first for p in even} == {0.5} and len({p.comparison.second[:4] for p in even}) > 2
    assert len(style_ties(told, 0.5, 0)) < len(told) and not style_ties(told, 0.0, 0)
    metrics = train_reward(
        told, tiny, tmp_path / "r", Reward(eval_fraction=0, format_augmentation=1.0, min_margin=0.2)
    )
    assert (
        metrics["pairs"] == 2 * len(told) and "format_bias" not in metrics
    )  # nothing was kept back to look at


def test_where_no_pair_is_ordered_rightly_there_is_none_to_turn_round(tiny):
    chat = ChatFormat(load_tokenizer(tiny))
    even = format_bias_metrics(lambda rows: torch.zeros(len(rows)), labels(), chat, 200, 0)
    assert set(even) == set(STYLES) and all(way == {"shift": 0.0} for way in even.values())
