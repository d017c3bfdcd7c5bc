"""What other libraries have to say reaches nobody who uses this one, and what they deprecate is not used."""

import logging
import os
import subprocess
import sys
import warnings

import pytest

PIPELINE = """
import sys
from pathlib import Path

import cai
from cai.config import PPO, SFT, Reward
from cai.records import Comparison, Preference

work = Path(sys.argv[1])
law = cai.load_constitution("reference")
with cai.Memo(work / "memo.sqlite") as memo:
    model = memo.asker(cai.open_backend("reference"))
    prompts = [cai.Prompt.of(text) for text in ("How do I repair the red bike?", "Write an insult about Anna.")]
    answers = cai.sample(prompts, model, n=2, seed=0, max_tokens=60)
    revisions = cai.revise(answers, law, model, rounds=1, seed=0, temperature=0, max_tokens=100)
    pairs = [Comparison.of(a.prompt, a.response, "I would be happy to help you.") for a in answers]
    labels = cai.judge(pairs, law, model, cai.CritiqueOdds(), principles=1, seed=0)
assert revisions and len(labels) == len(pairs)
taught = [Preference(id=p.id, comparison=p, p_first=0.9, source="human") for p in pairs]
cai.train_sft(cai.training_rows(revisions), "reference", work / "sft", SFT(epochs=1, batch_size=2))
cai.train_reward(taught, str(work / "sft"), work / "reward", Reward(epochs=1, batch_size=2, held_out=0))
cai.train_ppo(prompts, str(work / "sft"), str(work / "reward"), work / "ppo", PPO(updates=1, batch_size=2, max_tokens=4))
print("done")
"""


def test_a_pipeline_runs_without_a_warning_and_without_a_word(tmp_path):
    script = tmp_path / "pipeline.py"
    script.write_text(PIPELINE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(tmp_path)], env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("done\n", "")
