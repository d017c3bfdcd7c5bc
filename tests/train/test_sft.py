"""Supervised fine-tuning learns the answers, and nothing else."""

import pytest
import torch
from toy_data import GOOD, PROMPTS

from cai.config import SFT, Training
from cai.errors import InputError
from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_language_model
from cai.records import Prompt
from cai.train.held_out import is_held_out
from cai.train.options import TrainerOptions
from cai.train.sft import train_sft

ROWS = [(prompt, GOOD) for prompt in PROMPTS]


def weights_of(folder):
    return (folder / "model.safetensors").read_bytes()


def test_sft_learns_the_answers_and_is_deterministic(tiny, tmp_path):
    config = SFT(epochs=14, batch_size=8, learning_rate=5e-3)
    metrics = train_sft(ROWS, tiny, tmp_path / "a", config)
    again = train_sft(ROWS, tiny, tmp_path / "b", config)
    assert metrics == again
    assert metrics["loss_last"] < 0.3 < metrics["loss_first"]
    assert weights_of(tmp_path / "a") == weights_of(tmp_path / "b")
    model, tokenizer = load_language_model(str(tmp_path / "a"))
    chat = ChatFormat(tokenizer)
    prompt = chat.ids(chat.prompt(Prompt.of("Paint the roof.").messages))
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
    )
    answer = tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)
    assert answer.strip() == GOOD


def test_lora_adapters_are_drawn_by_the_seed(tiny, tmp_path):
    def train(name, seed):
        options = TrainerOptions(training=Training(lora_rank=2, merge_adapters=True), seed=seed)
        config = SFT(epochs=1, batch_size=8, learning_rate=1e-2)
        train_sft(ROWS[:8], tiny, tmp_path / name, config, options=options)
        return weights_of(tmp_path / name)

    first = train("a", seed=0)
    torch.manual_seed(12345)  # what happened before does not matter
    assert train("b", seed=0) == first
    assert train("c", seed=1) != first


def test_sft_says_why_there_is_nothing_to_train_on(tiny, tmp_path):
    with pytest.raises(InputError, match="there are no rows to fine-tune on"):
        train_sft([], tiny, tmp_path / "a", SFT())
    with pytest.raises(InputError, match=r"all 36 have more than 5 tokens"):
        train_sft(ROWS, tiny, tmp_path / "a", SFT(max_length=5))


def test_sft_takes_paths_as_text(tiny, tmp_path):
    out = str(tmp_path / "a")
    train_sft(ROWS[:4], tiny, out, SFT(epochs=1, batch_size=4))
    assert (tmp_path / "a/model.safetensors").is_file()


def test_held_out_rows_are_measured_and_not_learned(tiny, tmp_path):
    rows = [*ROWS, (PROMPTS[0], "Wash it twice.")]
    config = SFT(epochs=6, batch_size=8, learning_rate=5e-3, eval_fraction=0.3)
    metrics = train_sft(rows, tiny, tmp_path / "a", config)
    assert metrics["rows"] + metrics["eval_rows"] == len(rows)
    assert metrics["eval_rows"] > 4 and metrics["dropped_too_long"] == 0
    assert metrics["eval_loss_last"] < 0.5 * metrics["eval_loss_first"]
    # what is measured is what training minimizes: trained on alone, the rows start at the same loss
    held_out = [row for row in rows if is_held_out(row[0].id, 0.3, 0)]
    alone = SFT(epochs=1, batch_size=64, learning_rate=1e-9)
    start = train_sft(held_out, tiny, tmp_path / "b", alone)
    assert start["loss_first"] == pytest.approx(metrics["eval_loss_first"], rel=1e-4)
    learned = train_sft(
        [row for row in rows if row not in held_out],
        tiny,
        tmp_path / "c",
        config.model_copy(update={"eval_fraction": 0.0}),
    )
    assert weights_of(tmp_path / "a") == weights_of(tmp_path / "c")
    assert "eval_loss_first" not in learned and "eval_rows" not in learned


def test_rows_beyond_the_context_are_left_out(tiny, tmp_path):
    model, tokenizer = load_language_model(tiny)
    model.config.max_position_embeddings = 40
    model.save_pretrained(tmp_path / "short")
    tokenizer.save_pretrained(tmp_path / "short")
    rows = [*ROWS[:4], (PROMPTS[4], "very " * 60)]
    metrics = train_sft(rows, tmp_path / "short", tmp_path / "a", SFT(epochs=1, batch_size=4))
    assert metrics["rows"] == 4 and metrics["dropped_too_long"] == 1
    with pytest.raises(InputError, match=r"into the model's context: all 1 have more than 40"):
        train_sft(rows[4:], tmp_path / "short", tmp_path / "b", SFT(epochs=1))
