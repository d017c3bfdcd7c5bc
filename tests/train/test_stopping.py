"""Sampling, PPO, its evaluations and the reward model agree on the tokens that end an answer."""

import json

import pytest
import torch
from tiny_models import save_tiny_llama
from toy_data import GOOD, PROMPTS
from transformers import GenerationConfig

from cai.backends.local import LocalBackend
from cai.backends.protocol import GenerateRequest
from cai.config import PPO, SFT, Monitor, PPORollout, Training
from cai.errors import InputError
from cai.models.chat import open_chat
from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer
from cai.records import Message, Prompt
from cai.reference.tokenizer import build_tokenizer
from cai.train.batching import tokenize
from cai.train.options import TrainerOptions
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.rollout import collect_rollout
from cai.train.ppo.trainer import PPOInputs, train_ppo
from cai.train.sft import train_sft

TURN = "{{ begin + m.role + ' ' + m.content | trim + end + '\n' }}"
TURNS = "{%- for m in messages -%}" + TURN + "{%- endfor -%}"
OPENING = "{%- if add_generation_prompt -%}{{ begin + 'assistant' }}{%- endif -%}"
FAMILIES = {
    # eos is a token that the template never writes
    "gemma": ("<start_of_turn>", "<end_of_turn>", "<eos>", ["<eos>", "<end_of_turn>"]),
    # a base model whose generation config does not know the template that its tokenizer was given
    "chatml": ("<|im_start|>", "<|im_end|>", "<|endoftext|>", None),
}


def model_of(folder, begin, end, eos, generation=None, template=TURNS + OPENING):
    """Save an untrained model whose turns end with ``end`` and whose tokenizer has ``eos``."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [begin, end], "eos_token": eos})
    tokenizer.chat_template = f"{{%- set begin, end = {begin!r}, {end!r} -%}}" + template
    save_tiny_llama(tokenizer, folder)
    if generation:
        eos_ids = tokenizer.convert_tokens_to_ids(generation)
        GenerationConfig(eos_token_id=eos_ids).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=FAMILIES)
def tuned(request, tmp_path_factory):
    """A model that gives one answer to every prompt, and the token that ends its turns."""
    begin, end, eos, generation = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    base = model_of(folder / "base", begin, end, eos, generation)
    rows = [(prompt, GOOD) for prompt in PROMPTS]
    train_sft(rows, base, folder / "tuned", SFT(epochs=16, batch_size=8, learning_rate=5e-3))
    return str(folder / "tuned"), end


def ones(prompts, answers):
    return torch.ones(len(answers))


def test_rollout_answers_end_at_the_stop_token(tuned):
    name, end = tuned
    actor_critic = ActorCritic(name, PPO(rollout=PPORollout(temperature=0.2)), Training())
    chat = ChatFormat(actor_critic.tokenizer)
    prompts = [chat.ids(chat.prompt(prompt.messages)) for prompt in PROMPTS[:6]]
    rollout = collect_rollout(actor_critic, prompts, ones, seeds=range(6), max_tokens=24)
    assert rollout.stopped.all()
    answers = [trajectory.answer for trajectory in rollout.trajectories]
    end_id = actor_critic.tokenizer.convert_tokens_to_ids(end)
    assert {answer[-1] for answer in answers} == {end_id}
    detokenizer = Detokenizer(PROMPTS, name)
    assert all(detokenizer.ended(answer) for answer in answers)
    assert not detokenizer.ended(answers[0][:-1])
    assert [text for _, text in detokenizer(prompts, answers)] == [GOOD] * 6


def test_ppo_evaluation_and_sampling_stop_alike(tuned, tmp_path):
    name, _ = tuned
    rows = []
    evaluated_texts = []

    def gold(answers):
        evaluated_texts.extend(text for _, text in answers)
        return [1.0] * len(answers)

    rollout = PPORollout(batch_size=8, max_tokens=24, missing_eos_score=-1.0, temperature=0.2)
    monitor = Monitor(eval_every=1, eval_prompts=4)
    metrics = train_ppo(
        PROMPTS,
        name,
        tmp_path,
        PPO(num_updates=1, rollout=rollout),
        score=ones,
        inputs=PPOInputs(monitor=monitor, eval_prompts=PROMPTS[:4], gold=gold),
        options=TrainerOptions(log=rows.append),
    )
    assert metrics["stopped"] == 1.0
    assert rows[0]["score"] == 1.0
    assert [point["eval_score"] for point in metrics["eval_points"]] == [1.0, 1.0]
    assert evaluated_texts[:4] == [GOOD] * 4
    request = GenerateRequest(messages=PROMPTS[0].messages, max_tokens=24, temperature=0.0, seed=0)
    ((_, completion),) = LocalBackend(name).respond([request])
    assert completion.text == GOOD
    assert completion.finish_reason == "stop"


def test_training_rows_end_at_the_stop_token(tuned):
    """What a template writes after a turn is never sampled, so it is neither learned nor scored."""
    name, end = tuned
    tokenizer = load_tokenizer(name)
    chat = ChatFormat(tokenizer)
    turns = (
        *PROMPTS[0].messages,
        Message(role="assistant", content=GOOD),
        Message(role="user", content="Thanks."),
    )
    for prompt in (PROMPTS[0], Prompt.of(turns)):
        row = tokenize(chat, prompt, GOOD, 100)
        assert tokenizer.decode(row.answer).lstrip() == GOOD + end


def stop_texts(name, chat_format=""):
    chat = open_chat(name, chat_format)
    return set(chat.tokenizer.convert_ids_to_tokens(chat.stop_ids))


def test_stop_tokens_of_config_tokenizer_and_template(tmp_path):
    name = model_of(tmp_path, "<a>", "<b>", "<c>", ["<a>"])
    assert stop_texts(name) == {"<a>", "<b>", "<c>"}
    assert stop_texts(name, "transcript") == stop_texts(name, "plain") == {"<a>", "<c>"}
    # without a file of its own, the generation config is taken from the model's config
    (tmp_path / "generation_config.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    config["eos_token_id"] = [load_tokenizer(name).convert_tokens_to_ids("<a>")]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert stop_texts(name) == {"<a>", "<b>", "<c>"}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            "{%- for m in messages -%}{{ begin + m.role + ' ' + m.content }}"
            "{{ '' if loop.last else end }}{%- endfor -%}" + OPENING,
            {"<b>", "<c>"},
        ),
        ("{%- for m in messages -%}{{ m.role + ': ' + m.content + '\n' }}{%- endfor -%}", {"<c>"}),
    ],
    ids=["end between turns only", "no end token"],
)
def test_stop_tokens_of_unusual_templates(tmp_path, template, expected):
    name = model_of(tmp_path, "<a>", "<b>", "<c>", template=template)
    assert stop_texts(name) == expected


def test_a_template_without_assistant_turns_is_refused(tmp_path):
    template = (
        "{{ begin }}{%- for m in messages if m.role == 'user' -%}{{ m.content + end }}"
        "{%- endfor -%}"
    )
    name = model_of(tmp_path, "<a>", "<b>", "<c>", template=template)
    with pytest.raises(InputError, match="drops the text of assistant turns"):
        open_chat(name)
