"""A reward model that is biased toward the form of an answer is found out, and can be corrected."""

import pytest
import torch
from toy_data import PROMPTS

from cai.config import Reward
from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer
from cai.records import Comparison, Preference
from cai.train.reward.format_bias import STYLES, format_bias_metrics, style_ties
from cai.train.reward.trainer import train_reward

KIND, RUDE = "I am glad to help. Here is how.", "You are a fool. Go away."
CONFIG = Reward(epochs=14, batch_size=8, learning_rate=3e-3, eval_fraction=0.3)


def labels(reformat=lambda text: text):
    """Kind answers are better; ``reformat`` chooses their form."""
    return [
        Preference(
            id=str(i),
            comparison=Comparison.of(prompt, reformat(KIND), RUDE),
            p_first=0.9,
            source="ai",
        )
        for i, prompt in enumerate(PROMPTS)
    ]


@pytest.mark.parametrize("style", STYLES)
def test_styles_keep_the_content_of_an_answer(style):
    styled = STYLES[style](KIND)
    assert styled != KIND
    assert all(sentence in styled for sentence in ("I am glad to help.", "Here is how."))


@pytest.mark.parametrize("style", ["bold", "heading"])
def test_format_augmentation_removes_format_bias(tiny, tmp_path, style):
    shift = {}
    for share in (0.0, 1.0):
        config = CONFIG.model_copy(update={"format_augmentation": share})
        metrics = train_reward(labels(STYLES[style]), tiny, tmp_path / str(share), config)
        shift[share] = metrics["format_bias"][style]["shift"]
    assert shift[0.0] > 0.5
    assert abs(shift[1.0]) < 0.3 * shift[0.0]


def test_flipped_labels_are_counted_by_style(tiny, tmp_path):
    rows = labels(STYLES["bold"])
    # where nothing else tells the answers apart, the bold one is better
    rows += [
        Preference(
            id=f"{row.id}b",
            comparison=Comparison.of(row.comparison.prompt, STYLES["bold"](RUDE), RUDE),
            p_first=0.8,
            source="ai",
        )
        for row in rows
    ]
    metrics = train_reward(rows, tiny, tmp_path / "r", CONFIG)
    format_bias = metrics["format_bias"]
    assert format_bias.keys() == STYLES.keys()
    assert format_bias["bold"]["flipped"] > 0
    flipped = [measured["flipped"] for measured in format_bias.values()]
    assert metrics["format_bias_max_flipped"] == max(flipped)


def test_style_ties_are_keyed_one_per_prompt():
    rows = labels()
    ties = style_ties(rows, 1.0, 0)
    prompts = [row.comparison.prompt.id for row in rows]
    assert [tie.comparison.prompt.id for tie in ties] == prompts[::-1]
    assert ties == style_ties(rows, 1.0, 0)
    assert {tie.p_first for tie in ties} == {0.5}
    assert len({tie.comparison.second[:4] for tie in ties}) > 2
    assert len(style_ties(rows, 0.5, 0)) < len(rows)
    assert style_ties(rows, 0.0, 0) == []


def test_style_ties_survive_min_margin(tiny, tmp_path):
    config = Reward(eval_fraction=0, format_augmentation=1.0, min_margin=0.2)
    metrics = train_reward(labels(), tiny, tmp_path / "r", config)
    assert metrics["pairs"] == 2 * len(PROMPTS)
    assert "format_bias" not in metrics  # nothing was held out to measure it on


def test_format_bias_without_a_right_pair_has_no_flipped(tiny):
    chat = ChatFormat(load_tokenizer(tiny))
    metrics = format_bias_metrics(lambda rows: torch.zeros(len(rows)), labels(), chat, 200, 0)
    assert metrics.keys() == STYLES.keys()
    assert all(measured == {"shift": 0.0} for measured in metrics.values())
