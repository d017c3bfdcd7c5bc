"""A reward model that pays for an answer's dress is found out, and can be taught not to."""

import pytest
import torch
from test_training import PROMPTS

from cai.config import Reward
from cai.models.chat import ChatFormat
from cai.models.load import load_tokenizer
from cai.records import Comparison, Preference
from cai.train.dress import WAYS, dressed_figures, indifference
from cai.train.reward import train_reward

KIND, RUDE = "I am glad to help. Here is how.", "You are a fool. Go away."


def labels(better=lambda text: text):
    """Kind answers are better; what they wear is up to ``better``."""
    return [Preference(id=str(i), comparison=Comparison.of(p, better(KIND), RUDE), p_first=0.9, source="ai") for i, p in enumerate(PROMPTS)]


def test_the_ways_leave_what_is_said_as_it_is():
    for way in WAYS.values():
        said = way(KIND)
        assert said != KIND and all(sentence in said for sentence in ("I am glad to help.", "Here is how."))


CONFIG = Reward(epochs=14, batch_size=8, rate=3e-3, held_out=0.3)


@pytest.mark.parametrize("way", ["bold", "heading"])
def test_a_liking_for_dress_is_taught_away(tiny, tmp_path, way):
    vain, taught = (
        train_reward(labels(WAYS[way]), tiny, tmp_path / str(share), CONFIG.model_copy(update={"dressed": share}))["dressed"][way]["shift"]
        for share in (0.0, 1.0)
    )
    assert vain > 0.5 and abs(taught) < 0.3 * vain


def test_labels_that_dress_turns_round_are_counted(tiny, tmp_path):
    told = labels(WAYS["bold"])  # and where nothing else tells them apart, the dressed one is better
    told += [
        Preference(id=f"{p.id}b", comparison=Comparison.of(p.comparison.prompt, WAYS["bold"](RUDE), RUDE), p_first=0.8, source="ai")
        for p in told
    ]
    figures = train_reward(told, tiny, tmp_path / "r", CONFIG)
    assert set(figures["dressed"]) == set(WAYS) and figures["dressed"]["bold"]["turned"] > 0
    assert figures["dressed_turned"] == max(way["turned"] for way in figures["dressed"].values())


def test_the_even_labels_are_keyed_one_a_prompt_and_survive_a_least_margin(tiny, tmp_path):
    told = labels()
    even = indifference(told, 1.0, 0)
    assert [p.comparison.prompt.id for p in even] == [p.comparison.prompt.id for p in reversed(told)] and even == indifference(told, 1.0, 0)
    assert {p.p_first for p in even} == {0.5} and len({p.comparison.second[:4] for p in even}) > 2
    assert len(indifference(told, 0.5, 0)) < len(told) and not indifference(told, 0.0, 0)
    figures = train_reward(told, tiny, tmp_path / "r", Reward(held_out=0, dressed=1.0, least_margin=0.2))
    assert figures["pairs"] == 2 * len(told) and "dressed" not in figures  # nothing was kept back to look at


def test_where_no_pair_is_ordered_rightly_there_is_none_to_turn_round(tiny):
    chat = ChatFormat(load_tokenizer(tiny))
    even = dressed_figures(lambda rows: torch.zeros(len(rows)), labels(), chat, 200, 0)
    assert set(even) == set(WAYS) and all(way == {"shift": 0.0} for way in even.values())
