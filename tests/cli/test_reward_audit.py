"""``cai audit --reward``: where the answers come from, and what is held constant."""

import json

import pytest
import torch
from made_runs import make_run
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification
from typer.testing import CliRunner

from cai.cli.app import app
from cai.errors import InputError
from cai.files import write_records
from cai.pipeline import reward_audit
from cai.records import Prompt, Provenance, Sample
from cai.train.reward.biases import bias_score


def audit(*arguments):
    done = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


@pytest.fixture
def slang(monkeypatch):
    """Any reward model likes slang, and the length of an answer a little."""
    asked = []

    def text_score(model):
        def score(answers):
            asked.append((model, len(answers)))
            return [3 * bias_score("slang", text) + len(text) / 1000 for _, text in answers]

        return score

    monkeypatch.setattr(reward_audit, "_text_score", text_score)
    return asked


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_run(tmp_path / "runs/a")


def first_row(printed):
    return printed.splitlines()[4].split()


def test_labeled_answers_are_perturbed(folder, slang):
    printed = audit(folder, "--reward", "reference")
    assert first_row(printed)[0] == "slang"
    assert "nothing says what is better" in printed, "the prompts are not of the world"
    assert slang[0][1] == 7 + 1, "seven pairs, all with the same second answer"


def test_held_out_answers_come_first(folder, slang):
    (folder / "evaluate").mkdir()
    samples = [
        Sample(
            id=str(i),
            prompt=Prompt.of("How do I wash the dog?", "eval_benign"),
            response=text,
            status=status,
            provenance=Provenance(model="m", seed=0, temperature=1, max_tokens=9),
        )
        for i, (text, status) in enumerate([("Yo.", "ok"), ("Use soap.", "ok"), ("", "empty")])
    ]
    write_records(folder / "evaluate/records.jsonl", samples)
    printed = audit(folder, "--reward", "reference")
    assert slang[0][1] == 2
    assert "answers that are no better by the gold function" in printed


def test_pairs_of_a_file_and_a_second_model(tmp_path, slang):
    rows = [{"prompt": "Hi.", "chosen": "Good day.", "rejected": "Yo, dude."}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    printed = audit("--reward", "reference", "--on", tmp_path / "pairs.jsonl")
    assert "nothing says what is better" in printed
    assert first_row(printed)[0] == "slang"
    with pytest.raises(InputError, match="every perturbation makes every answer better"):
        # the second model is the same: what raises the one makes answers better by the other
        audit("--reward", "reference", "--on", tmp_path / "pairs.jsonl", "--second", "reference")


def test_second_without_a_reward_is_refused():
    with pytest.raises(InputError, match="--second and --on need --reward"):
        audit("--second", "reference")


def test_a_real_reward_model_is_read(tmp_path, tiny):
    config = LlamaConfig.from_pretrained(tiny, num_labels=1)
    torch.manual_seed(0)
    model = tmp_path / "model"
    LlamaForSequenceClassification(config).save_pretrained(model)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(model)
    answers = [(Prompt.of("Hi."), text) for text in ("Good day.", "Yo, dude.")]
    one, other = reward_audit._text_score(str(model))(answers)
    assert one != other
