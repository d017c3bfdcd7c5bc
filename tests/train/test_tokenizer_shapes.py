"""Every shape of tokenizer and template goes through fine-tuning, reward model, PPO and reopening."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from cai.backends.local import LocalBackend
from cai.backends.protocol import GenerateRequest
from cai.config import DPO, PPO, SFT, PPORollout, Reward
from cai.models.chat import open_chat
from cai.models.scalar import load_scalar_model
from cai.records import Comparison, Preference, Prompt
from cai.train.dpo import train_dpo
from cai.train.ppo.rewards import reward_scorer
from cai.train.ppo.trainer import train_ppo
from cai.train.reward.scoring import score_texts
from cai.train.reward.trainer import train_reward
from cai.train.sft import train_sft

PROMPTS = [Prompt.of(text) for text in ("Wash it?", "Is it <red>?", "Say two\n\nlines.")]
ANSWER, WORSE = "It is so.\n\nYes.", "No"


def turns(opening, closing, ask, before=""):
    """A template from the texts around a turn, and the opening of an answer."""
    body = f"{before}{{% for m in messages %}}{opening}{{{{ m.content }}}}{closing}{{% endfor %}}"
    return body + f"{{% if add_generation_prompt %}}{ask}{{% endif %}}"


NAMED = "{{ 'model' if m.role == 'assistant' else m.role }}"
THOUGHTS = """
{%- for m in messages -%}
{%- if m.role == 'user' -%}<user>{{ m.content }}
{%- else -%}<answer>{{ m.content.split('</think>')[-1] }}<end>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<answer><think>
{% endif -%}
"""
SHAPES = {  # name: template, special tokens, what is set beside them
    "llama 3": (
        turns("<head>{{ m.role }}</head>\n\n", "<eot>", "<head>assistant</head>\n\n", "<bos>"),
        ["<head>", "</head>", "<eot>"],
        {"bos_token": "<bos>", "eos_token": "<eos>"},
    ),
    "gemma": (
        turns(f"<turn>{NAMED}\n", "</turn>\n", "<turn>model\n", "<bos>"),
        ["<turn>", "</turn>"],
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
    ),
    "chatml on a base model": (
        turns("<|im_start|>{{ m.role }}\n", "<|im_end|>\n", "<|im_start|>assistant\n"),
        [],
        {"eos_token": "<eos>"},
    ),
    "glm": (
        turns("<|{{ m.role }}|>\n", "", "<|assistant|>\n", "<sop>"),
        ["<sop>", "<|user|>", "<|assistant|>"],
        {"eos_token": "<eos>"},
    ),
    "phi": (
        turns("<|{{ m.role }}|>\n", "<|end|>\n", "<|assistant|>\n"),
        ["<|user|>", "<|assistant|>", "<|end|>"],
        {"eos_token": "<eos>", "pad_token": "<eos>"},
    ),
    "gpt-2": (None, [], {"bos_token": "<eos>", "eos_token": "<eos>"}),
    "r1": (
        THOUGHTS,
        ["<user>", "<answer>", "<end>", "<think>", "</think>"],
        {"eos_token": "<end>"},
    ),
    "no end token": (turns("{{ m.role }}: ", "\n", "assistant: "), [], {}),
    "end token of id 0": (
        turns("[{{ m.role }}] ", "<eos>\n", "[assistant] "),
        [],
        {"first": "<eos>"},
    ),
    "padding that is the end token": (
        turns("[{{ m.role }}] ", "<eos>", "[assistant] "),
        [],
        {"eos_token": "<eos>", "pad_token": "<eos>"},
    ),
}


def tokenizer_of(shape):
    """A byte-level tokenizer: every text is spelled out, but for its special tokens."""
    template, special, named = SHAPES[shape]
    named = dict(named)
    first = [named["first"]] if "first" in named else []
    named |= {"eos_token": named.pop("first")} if first else {}
    alphabet = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **named)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(params=SHAPES)
def base(request, tmp_path):
    """An untrained model with the tokenizer and the template of a shape."""
    tokenizer = tokenizer_of(request.param)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 3,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def answers_of(path):
    """What a policy says to each prompt, and how it ends."""
    requests = [GenerateRequest(p.messages, 0, 0.0, 40) for p in PROMPTS]
    found = dict(LocalBackend(str(path)).respond(requests))
    return [(found[i].text, found[i].finish_reason) for i in range(len(PROMPTS))]


def library_scores(path, rows):
    """The reward of rows in plain transformers: padded, or one by one without a token for it."""
    model = AutoModelForSequenceClassification.from_pretrained(path)
    pad = model.config.pad_token_id
    assert pad is None or all(row[-1] != pad for row in rows)
    logits = []
    for batch in [rows] if pad is not None else [[row] for row in rows]:
        longest = max(map(len, batch))
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
        logits += model(input_ids=ids, attention_mask=mask).logits[:, 0].tolist()
    return (torch.tensor(logits) - model.config.reward_mean) / model.config.reward_std


def test_texts_stay_answers_end_and_rewards_agree_through_all_stages(base, tmp_path):
    chat = open_chat(str(base))
    for prompt in PROMPTS:
        assert chat.decode(chat.example(prompt.messages, ANSWER)[1]).text == ANSWER

    sft = SFT(epochs=60, batch_size=3, learning_rate=1e-2)
    train_sft([(prompt, ANSWER) for prompt in PROMPTS], str(base), tmp_path / "sft", sft)
    assert answers_of(tmp_path / "sft") == [(ANSWER, "stop")] * len(PROMPTS)

    labels = [
        Preference(
            id=prompt.id,
            comparison=Comparison.of(prompt, ANSWER, WORSE),
            p_first=1.0,
            source="ai",
        )
        for prompt in PROMPTS
    ]
    reward = tmp_path / "reward"
    config = Reward(epochs=4, batch_size=3, learning_rate=1e-3, eval_fraction=0.0)
    train_reward(labels, str(tmp_path / "sft"), reward, config)
    texts = [(prompt, answer) for prompt in PROMPTS for answer in (ANSWER, WORSE)]
    scores = score_texts(load_scalar_model(str(reward)), texts)
    rows = [chat.example(prompt.messages, answer) for prompt, answer in texts]
    in_ppo = reward_scorer(str(reward))(*map(list, zip(*rows, strict=True)))
    torch.testing.assert_close(torch.as_tensor(in_ppo), scores, atol=1e-5, rtol=0)
    in_library = library_scores(reward, [prompt + answer for prompt, answer in rows])
    torch.testing.assert_close(in_library, scores, atol=1e-4, rtol=0)
    assert (scores[::2] > scores[1::2]).all()

    ppo = PPO(num_updates=1, epochs=1, rollout=PPORollout(batch_size=3, max_tokens=30))
    score = reward_scorer(str(reward))
    logged = train_ppo(PROMPTS, str(tmp_path / "sft"), tmp_path / "ppo", ppo, score=score)
    assert logged["kl"] == pytest.approx(0, abs=1e-3)
    assert answers_of(tmp_path / "ppo") == [(ANSWER, "stop")] * len(PROMPTS)


@pytest.mark.parametrize("base", ["gpt-2"], indirect=True)
def test_rows_with_characters_that_the_tokenizer_does_not_know_are_counted(base, tmp_path):
    path = base / "tokenizer.json"
    core = json.loads(path.read_text())
    core["model"]["vocab"].pop("Ã")  # the first byte of é, so the tokenizer loses that letter
    ids = {token: i for i, token in enumerate(sorted(core["model"]["vocab"]))}
    core["model"]["vocab"] = ids
    path.write_text(json.dumps(core))
    rows = [(PROMPTS[0], "A café."), (PROMPTS[1], "A bar."), (Prompt.of("Où?"), "Ici.")]
    config = SFT(epochs=1, batch_size=3, learning_rate=1e-3)
    metrics = train_sft(rows, str(base), tmp_path / "sft", config)
    assert metrics["rows_with_unknown_characters"] == 2 and metrics["rows"] == 3
    labels = [
        Preference(
            id=prompt.id,
            comparison=Comparison.of(prompt, answer, WORSE),
            p_first=1.0,
            source="ai",
        )
        for prompt, answer in rows
    ]
    reward = Reward(epochs=1, batch_size=3, learning_rate=1e-3, eval_fraction=0.0)
    found = train_reward(labels, str(base), tmp_path / "reward", reward)
    assert found["pairs_with_unknown_characters"] == 2
    dpo = DPO(epochs=1, batch_size=3, learning_rate=1e-3)
    found = train_dpo(labels, str(base), tmp_path / "dpo", dpo)
    assert found["pairs_with_unknown_characters"] == 2
