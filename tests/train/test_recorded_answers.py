"""Answers of each update of PPO are recorded for people to read."""

import json

import pytest
from toy_data import GOOD, PROMPTS

from cai.config import PPO, PPORollout
from cai.pipeline.training_log import LogFile
from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.recorded import RECORDED, AnswerRecorder
from cai.train.ppo.trainer import PPOInputs, TrainerOptions, train_ppo


def test_answers_are_recorded_with_the_scores_that_the_log_averages(
    two_answer_policy, good_score, tmp_path
):
    path, log = tmp_path / "answers.jsonl", []
    path.write_text('{"update": 7, "answer": "of an earlier training"}\n')
    detokenizer = Detokenizer(PROMPTS, two_answer_policy)
    config = PPO(
        num_updates=2,
        num_minibatches=1,
        epochs=1,
        rollout=PPORollout(batch_size=RECORDED, max_tokens=24),
    )
    train_ppo(
        PROMPTS,
        two_answer_policy,
        tmp_path / "out",
        config,
        score=good_score,
        inputs=PPOInputs(record=AnswerRecorder(detokenizer, LogFile(path).append)),
        options=TrainerOptions(log=log.append),
    )
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["update"] for row in rows] == [1] * RECORDED + [2] * RECORDED
    for update in (1, 2):  # all answers of so small an update are recorded
        own = [row for row in rows if row["update"] == update]
        assert sum(row["score"] for row in own) / RECORDED == pytest.approx(
            log[update - 1]["score"]
        )
        assert sum(row["kl"] for row in own) / RECORDED == pytest.approx(
            log[update - 1]["kl"], abs=1e-4
        )
        assert all((row["score"] == 1) == row["answer"].startswith(GOOD[:9]) for row in own)
        assert {row["prompt"] for row in own} <= {prompt.text for prompt in PROMPTS}
