"""Python functions as the reward: TRL's signature, weights, answers without a score, identity."""

import sys

import pytest
import torch
from toy_data import PROMPTS

from cai.config import PPO, PPORollout
from cai.config.training import RewardFunction
from cai.errors import InputError
from cai.models.chat import open_chat
from cai.train.options import TrainerOptions
from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.reward_functions import FunctionScore
from cai.train.ppo.rewards import WeightedSum, begin_update, describe
from cai.train.ppo.trainer import train_ppo

CODE = """
def words(completions, **kwargs):  # as written for TRL, for conversations
    assert kwargs["prompts"][0][-1]["role"] == "user"
    assert len(kwargs["completion_ids"]) == len(completions)
    kwargs["log_metric"]("share_of_no", sum("No" in c[0]["content"] for c in completions))
    kwargs["log_extra"]("text", [c[0]["content"] for c in completions])
    assert kwargs["trainer_state"].global_step >= 0
    return [float(len(c[0]["content"].split())) for c in completions]

def only_no(answers):
    return [1.0 if answer == "No." else None for answer in answers]

def kinds(kind, prompt_id):
    return [float(k == "prompt" and bool(p)) for k, p in zip(kind, prompt_id)]

def one_short(completions):
    return [1.0] * (len(completions) - 1)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_rewards"
    sys.modules.pop("my_rewards", None)


@pytest.fixture
def rows(tiny):
    chat = open_chat(tiny)
    examples = [chat.example(PROMPTS[i].messages, text) for i, text in enumerate(("No.", "It is."))]
    return [prompt for prompt, _ in examples], [answer for _, answer in examples]


def score_of(tiny, *terms):
    functions = [RewardFunction(function=name, **settings) for name, settings in terms]
    return FunctionScore(functions, Detokenizer(PROMPTS, tiny))


def test_a_function_is_given_what_it_names(tiny, module, rows):
    score = score_of(tiny, ("my_rewards:words", {}), ("my_rewards:kinds", {"weight": 10.0}))
    assert score(*rows).tolist() == [11.0, 12.0]
    assert score.metrics() == {"reward_words": 1.5, "reward_kinds": 1.0, "share_of_no": 1.0}
    assert score.metrics() == {}


def test_an_answer_that_a_function_does_not_score_has_no_score(tiny, module, rows):
    assert score_of(tiny, ("my_rewards:only_no", {}))(*rows).isnan().tolist() == [False, True]
    together = score_of(tiny, ("my_rewards:words", {}), ("my_rewards:only_no", {}))
    assert together(*rows).isnan().tolist() == [False, True]
    optional = score_of(
        tiny, ("my_rewards:words", {}), ("my_rewards:only_no", {"optional": True, "weight": 4.0})
    )
    assert optional(*rows).tolist() == [5.0, 2.0]


def test_a_score_for_every_answer_is_demanded(tiny, module, rows):
    score = score_of(tiny, ("my_rewards:one_short", {}))
    with pytest.raises(InputError, match="my_rewards:one_short: returned 1 scores for 2 answers"):
        score(*rows)


def test_identity_changes_with_the_code(tiny, module, rows, tmp_path):
    before = score_of(tiny, ("my_rewards:words", {})).describe()
    assert before == score_of(tiny, ("my_rewards:words", {})).describe()
    assert before != score_of(tiny, ("my_rewards:words", {"weight": 2.0})).describe()
    (tmp_path / "my_rewards.py").write_text(CODE + "# changed")
    assert before != score_of(tiny, ("my_rewards:words", {})).describe()


def test_what_evaluations_log_is_no_part_of_an_update(tiny, module, rows):
    score = score_of(tiny, ("my_rewards:words", {}))
    total = WeightedSum([(score, 1.0)])
    score(*rows)
    begin_update(total, 3)
    assert score.metrics() == {}
    assert score._state.global_step == 3


def test_a_plain_function_is_known_by_its_file(module, tmp_path):
    from importlib import reload

    import my_rewards

    before = describe(my_rewards.words)
    assert before["name"] == "my_rewards:words"
    (tmp_path / "my_rewards.py").write_text(CODE + "# changed")
    assert describe(reload(my_rewards).words) != before


def test_ppo_trains_on_functions_and_logs_each(tiny, module, tmp_path):
    logged = []
    functions = score_of(tiny, ("my_rewards:words", {}))
    train_ppo(
        PROMPTS,
        tiny,
        tmp_path / "out",
        PPO(num_updates=1, rollout=PPORollout(batch_size=4, max_tokens=6)),
        score=WeightedSum([(functions, 1.0), (lambda prompts, answers: torch.ones(4), 0.5)]),
        options=TrainerOptions(log=logged.append),
    )
    assert logged[0]["score"] == pytest.approx(logged[0]["reward_words"] + 0.5)
