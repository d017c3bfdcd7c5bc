"""What other libraries have to say reaches nobody who uses this one, and what they deprecate is not used."""

import logging
import os
import subprocess
import sys
import warnings

import pytest

from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer
from cai.quiet import quiet

PIPELINE = """
import sys
from pathlib import Path

import cai
from cai.config import PPO, PPORollout, SFT, Reward
from cai.records import Comparison, Preference

work = Path(sys.argv[1])
constitution = cai.load_constitution("reference")
with cai.ResponseCache(work / "cache.sqlite") as cache:
    model = cache.cached_model(cai.open_backend("reference"))
    prompts = [cai.Prompt.of(text) for text in ("How do I repair the red bike?", "Write an insult about Anna.")]
    answers = cai.sample(prompts, model, n=2, seed=0, max_tokens=60)
    revisions = cai.revise(answers, constitution, model, rounds=1, seed=0, temperature=0, max_tokens=100)
    pairs = [Comparison.of(a.prompt, a.response, "I would be happy to help you.") for a in answers]
    labels = cai.judge(pairs, constitution, model, cai.CritiqueOdds(), principles=1, seed=0)
assert revisions and len(labels) == len(pairs)
taught = [Preference(id=p.id, comparison=p, p_first=0.9, source="human") for p in pairs]
cai.train_sft(cai.training_rows(revisions), "reference", work / "sft", SFT(epochs=1, batch_size=2))
cai.train_reward(taught, str(work / "sft"), work / "reward", Reward(epochs=1, batch_size=2, eval_fraction=0))
config = PPO(num_updates=1, rollout=PPORollout(batch_size=2, max_tokens=4))
cai.train_ppo(prompts, work / "sft", work / "ppo", config, reward_model=work / "reward")
print("done")
"""


def test_a_pipeline_runs_without_a_warning_and_without_a_word(tmp_path):
    script = tmp_path / "pipeline.py"
    script.write_text(PIPELINE, encoding="utf-8")
    loud = {
        name: value
        for name, value in os.environ.items()
        if name not in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS")
    }
    command = [sys.executable, "-W", "error", str(script), str(tmp_path)]
    done = subprocess.run(
        command, env=loud | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("done\n", "")


class Heard(logging.Handler):
    """Keeps what a library logs."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.fixture(params=["transformers", "huggingface_hub"])
def library(request):
    """A library's logger, with its default level, and what comes of it."""
    logger, heard = logging.getLogger(request.param), Heard()
    level = logger.level
    logger.setLevel(logging.WARNING)
    logger.addHandler(heard)
    yield logger, heard.lines
    logger.removeHandler(heard)
    logger.setLevel(level)


def test_a_library_is_silent_within_and_itself_afterwards(library):
    logger, lines = library
    with quiet():
        logger.warning("advice")
        logger.error("an error")
    logger.warning("afterwards")
    assert lines == ["an error", "afterwards"]


def test_what_the_user_asked_to_hear_is_heard(library):
    logger, lines = library
    logger.setLevel(logging.INFO)
    with quiet():
        logger.info("detail")
    assert lines == ["detail"] and logger.level == logging.INFO


def test_bars_come_back_afterwards(capsys):
    from transformers.utils.logging import tqdm

    with quiet():
        assert list(tqdm([1, 2], desc="Loading weights")) == [1, 2]
    assert capsys.readouterr().err == ""
    assert list(tqdm([1, 2], desc="afterwards")) == [1, 2]
    assert "afterwards" in capsys.readouterr().err


def test_all_is_as_before_after_an_error():
    level, filters = logging.getLogger("transformers").level, list(warnings.filters)
    with pytest.raises(ZeroDivisionError), quiet():
        raise ZeroDivisionError
    assert logging.getLogger("transformers").level == level and warnings.filters == filters


def test_warnings_are_ignored_unless_the_user_has_a_filter_for_them():
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        with quiet():
            warnings.warn("advice", UserWarning, stacklevel=1)
        warnings.warn("afterwards", UserWarning, stacklevel=1)
        warnings.simplefilter("error", FutureWarning)
        with quiet(), pytest.raises(FutureWarning):
            warnings.warn("will be removed", FutureWarning, stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["afterwards"]


def test_a_text_longer_than_the_tokenizer_expects_is_read_without_a_word(tiny):
    heard = Heard()
    logging.getLogger("transformers").addHandler(heard)
    tokenizer = load_tokenizer(tiny)
    for chat_format in ("chat", "transcript"):
        assert (
            len(
                ChatFormat(tokenizer, chat_format).ids("the red bike " * tokenizer.model_max_length)
            )
            > tokenizer.model_max_length
        )
    logging.getLogger("transformers").removeHandler(heard)
    assert heard.lines == []
