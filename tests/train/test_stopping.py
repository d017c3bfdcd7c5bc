"""Sampling, PPO, watching and the reward model agree on the tokens that end an answer."""

import json

import pytest
import torch
from toy_data import GOOD, PROMPTS
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from cai.backends.local import LocalBackend
from cai.backends.protocol import GenerateRequest
from cai.config import PPO, SFT, Monitor, PPORollout, Training
from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer
from cai.models.stopping import stop_tokens
from cai.records import Message, Prompt
from cai.reference.tokenizer import build_tokenizer
from cai.train.batching import tokenize
from cai.train.options import TrainerOptions
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.rollout import collect_rollout
from cai.train.ppo.trainer import PPOInputs, train_ppo
from cai.train.sft import train_sft

TURNS = "{%- for m in messages -%}{{ begin + m.role + ' ' + m.content | trim + end + '\n' }}{%- endfor -%}"
OPENING = "{%- if add_generation_prompt -%}{{ begin + 'assistant' }}{%- endif -%}"
SHAPES = {
    # eos is a token that the template never writes
    "gemma": ("<start_of_turn>", "<end_of_turn>", "<eos>", ["<eos>", "<end_of_turn>"]),
    # a base model whose generation config knows nothing of the template that was put on its tokenizer
    "chatml": ("<|im_start|>", "<|im_end|>", "<|endoftext|>", None),
}


def model_of(folder, begin, end, eos, generation=None, template=TURNS + OPENING):
    """An untrained model whose turns end in ``end`` and whose tokenizer's end token is ``eos``."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [begin, end], "eos_token": eos})
    tokenizer.chat_template = f"{{%- set begin, end = {begin!r}, {end!r} -%}}" + template
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if generation:
        GenerationConfig(eos_token_id=tokenizer.convert_tokens_to_ids(generation)).save_pretrained(
            folder
        )
    return str(folder)


@pytest.fixture(scope="module", params=SHAPES)
def shape(request, tmp_path_factory):
    """A model of each shape that answers every prompt with one sentence, and the token that ends its turns."""
    begin, end, eos, generation = SHAPES[request.param]
    base = model_of(tmp_path_factory.mktemp(request.param) / "base", begin, end, eos, generation)
    out = tmp_path_factory.mktemp(request.param) / "tuned"
    train_sft(
        [(prompt, GOOD) for prompt in PROMPTS],
        base,
        out,
        SFT(epochs=16, batch_size=8, learning_rate=5e-3),
    )
    return str(out), end


def test_rollout_answers_end_at_the_stop_token(shape):
    name, end = shape
    actor_critic, texts = (
        ActorCritic(name, PPO(rollout=PPORollout(temperature=0.2)), Training()),
        Detokenizer(PROMPTS, name),
    )
    chat = ChatFormat(actor_critic.tokenizer)
    prompts = [chat.ids(chat.prompt(prompt.messages)) for prompt in PROMPTS[:6]]
    rollout = collect_rollout(
        actor_critic,
        prompts,
        lambda prompts, answers: torch.ones(len(answers)),
        seeds=range(6),
        max_tokens=24,
        missing_eos_score=-1.0,
    )
    assert rollout.stopped.all() and (rollout.scores == 1).all()
    answers = [trajectory.answer for trajectory in rollout.trajectories]
    assert {answer[-1] for answer in answers} == {actor_critic.tokenizer.convert_tokens_to_ids(end)}
    assert all(texts.ended(answer) for answer in answers) and not texts.ended(answers[0][:-1])
    assert [text for _, text in texts(prompts, answers)] == [GOOD] * 6


def test_ppo_evaluation_and_sampling_stop_alike(shape, tmp_path):
    name, _ = shape
    heard, rows = [], []

    def gold(answers):
        heard.extend(text for _, text in answers)
        return [1.0] * len(answers)

    config = PPO(
        num_updates=1,
        rollout=PPORollout(batch_size=8, max_tokens=24, missing_eos_score=-1.0, temperature=0.2),
    )
    metrics = train_ppo(
        PROMPTS,
        name,
        tmp_path / "ppo",
        config,
        score=lambda prompts, answers: torch.ones(len(answers)),
        inputs=PPOInputs(
            monitor=Monitor(eval_every=1, eval_prompts=4), eval_prompts=PROMPTS[:4], gold=gold
        ),
        options=TrainerOptions(log=rows.append),
    )
    assert (
        metrics["stopped"] == 1.0
        and rows[0]["score"] == 1.0
        and [evaluate["eval_score"] for evaluate in metrics["eval_points"]] == [1.0, 1.0]
    )
    assert heard[:4] == [GOOD] * 4
    call = GenerateRequest(messages=PROMPTS[0].messages, max_tokens=24, temperature=0.0, seed=0)
    ((_, said),) = LocalBackend(name).respond([call])
    assert (said.text, said.finish_reason) == (GOOD, "stop")


def test_training_rows_end_at_the_stop_token(shape):
    """What a template writes behind the end of a turn is never sampled: nothing learns it, no reward is read there."""
    name, end = shape
    tokenizer = load_tokenizer(name)
    row = tokenize(ChatFormat(tokenizer), PROMPTS[0], GOOD, 100)
    assert tokenizer.decode(row.answer).lstrip() == GOOD + end
    said = Prompt.of(
        (
            *PROMPTS[0].messages,
            Message(role="assistant", content=GOOD),
            Message(role="user", content="Thanks."),
        )
    )
    assert (
        tokenizer.decode(tokenize(ChatFormat(tokenizer), said, GOOD, 100).answer).lstrip()
        == GOOD + end
    )


def test_stop_tokens_of_config_tokenizer_and_template(tmp_path):
    def stops(name, chat_format=""):
        tokenizer = load_tokenizer(name)
        return set(
            tokenizer.convert_ids_to_tokens(stop_tokens(name, ChatFormat(tokenizer, chat_format)))
        )

    name = model_of(tmp_path / "all", "<a>", "<b>", "<c>", ["<a>"])
    assert stops(name) == {"<a>", "<b>", "<c>"} and stops(name, "transcript") == stops(
        name, "plain"
    ) == {"<a>", "<c>"}
    # without a file of its own the generation config is what the model's config says
    (tmp_path / "all/generation_config.json").unlink()
    config = json.loads((tmp_path / "all/config.json").read_text())
    config["eos_token_id"] = [load_tokenizer(name).convert_tokens_to_ids("<a>")]
    (tmp_path / "all/config.json").write_text(json.dumps(config))
    assert stops(name) == {"<a>", "<b>", "<c>"}
    # an end that stands between turns only
    between = "{%- for m in messages -%}{{ begin + m.role + ' ' + m.content + ('' if loop.last else end) }}{%- endfor -%}"
    assert stops(
        model_of(tmp_path / "between", "<a>", "<b>", "<c>", template=between + OPENING)
    ) == {"<b>", "<c>"}
    # no turn ends in a token, and the template writes none of what the model says
    plain = "{%- for m in messages -%}{{ m.role + ': ' + m.content + '\n' }}{%- endfor -%}"
    assert stops(model_of(tmp_path / "plain", "<a>", "<b>", "<c>", template=plain)) == {"<c>"}
    drops = "{{ begin }}{%- for m in messages if m.role == 'user' -%}{{ m.content + end }}{%- endfor -%}"
    assert stops(model_of(tmp_path / "drops", "<a>", "<b>", "<c>", template=drops)) == {"<c>"}
