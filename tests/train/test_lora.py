"""Training with LoRA adapters."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_data import BAD, GOOD, PROMPTS, preferences
from transformers import AutoModelForSequenceClassification

from cai.config import DPO, PPO, SFT, Reward, Training
from cai.errors import InputError
from cai.models.adapters import base_of
from cai.models.chat import open_chat
from cai.models.load import fingerprint, load_language_model, stored_dtype
from cai.models.packing.layout import PromptGroup, pack
from cai.models.scalar import load_scalar_model
from cai.train.dpo import train_dpo
from cai.train.load import load_policy
from cai.train.lora import without_adapters
from cai.train.options import TrainerOptions
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.reward.scoring import score_texts
from cai.train.reward.trainer import train_reward
from cai.train.sft import train_sft

ROWS = [(prompt, GOOD) for prompt in PROMPTS]
LORA = Training(lora_rank=4, lora_alpha=8, precision="float32")
OPTIONS = TrainerOptions(training=LORA)


@pytest.mark.parametrize("name", ["tiny", "tiny_gpt2"])
def test_merged_lora_equals_peft(name, request, tmp_path):
    from peft import PeftModel

    base = request.getfixturevalue(name)
    config = SFT(epochs=4, batch_size=8, learning_rate=1e-2)
    train_sft(ROWS, base, tmp_path / "adapters", config, options=OPTIONS)
    whole = TrainerOptions(training=LORA.model_copy(update={"merge_adapters": True}))
    train_sft(ROWS, base, tmp_path / "merged", config, options=whole)
    opened, _ = load_language_model(str(tmp_path / "adapters"), dtype=torch.float32)
    merged, _ = load_language_model(str(tmp_path / "merged"), dtype=torch.float32)
    plain, _ = load_language_model(base, dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before, after = plain(ids).logits, opened(ids).logits
        adapted = PeftModel.from_pretrained(plain, tmp_path / "adapters")(ids).logits
    assert torch.allclose(after, adapted, atol=1e-4)
    assert torch.allclose(after, merged(ids).logits, atol=1e-4)
    assert not torch.allclose(after, before, atol=1e-2)
    assert not list((tmp_path / "adapters").glob("model*.safetensors"))
    assert not list((tmp_path / "merged").glob("adapter*"))


def test_a_policy_is_trained_on_from_adapters(tiny, tmp_path):
    """Each folder of adapters names the one before it, and a change of the base changes them all."""
    config = SFT(epochs=2, batch_size=8, learning_rate=1e-2)
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    train_sft(ROWS, tiny, first, config, options=OPTIONS)
    train_sft(ROWS, first, second, config, options=OPTIONS)
    assert base_of(second) == first
    assert base_of(first) == str(Path(tiny).resolve())
    assert base_of(tiny) is None
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        logits = [load_language_model(name)[0](ids).logits for name in (tiny, first, second)]
    assert not torch.allclose(logits[0], logits[1], atol=1e-2)
    assert not torch.allclose(logits[1], logits[2], atol=1e-2)
    assert stop_names(second) == stop_names(tiny)
    before = fingerprint(second)
    (tmp_path / "first" / "generation_config.json").write_text("{}")
    assert fingerprint(second) != before


def stop_names(name):
    chat = open_chat(name)
    return chat.tokenizer.convert_ids_to_tokens(sorted(chat.stop_ids))


def test_adapters_without_their_base_are_refused(tiny, tmp_path):
    config = SFT(epochs=1, batch_size=8)
    train_sft(ROWS, tiny, tmp_path / "adapters", config, options=OPTIONS)
    path = tmp_path / "adapters" / "adapter_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"base_model_name_or_path": str(tmp_path / "gone")}))
    with pytest.raises(InputError, match="gone"):
        load_language_model(str(tmp_path / "adapters"))
    path.write_text(json.dumps(settings | {"base_model_name_or_path": None}))
    with pytest.raises(InputError, match="does not name the model that its adapters belong to"):
        load_language_model(str(tmp_path / "adapters"))


def test_lora_trains_only_adapters(tiny, tmp_path):
    policy, _ = load_policy(tiny, LORA)
    trained = [name for name, p in policy.named_parameters() if p.requires_grad]
    assert trained
    assert all(".lora_" in name for name in trained)
    config = SFT(epochs=10, batch_size=8, learning_rate=2e-2)
    metrics = train_sft(ROWS, tiny, tmp_path, config, options=OPTIONS)
    assert metrics["loss_last"] < 0.6 * metrics["loss_first"]
    before = load_file(f"{tiny}/model.safetensors")
    after = load_language_model(str(tmp_path), dtype=torch.float32).model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("proj" in name for name in changed)


def test_lora_reward_model_keeps_its_head(tiny, tmp_path):
    config = Reward(epochs=6, batch_size=8, learning_rate=1e-2, eval_fraction=0.0)
    train_reward(preferences(), tiny, tmp_path, config, options=OPTIONS)
    scalar = load_scalar_model(str(tmp_path))
    good, bad = score_texts(scalar, [(PROMPTS[0], GOOD), (PROMPTS[0], BAD)])
    assert good > bad + 1
    # other libraries read the same: the adapters bring the head
    from peft import PeftModel

    library = AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=1)
    adapted = PeftModel.from_pretrained(library, tmp_path)
    chat, config = open_chat(str(tmp_path)), scalar.model.config
    for text, score in ((GOOD, good), (BAD, bad)):
        prompt, answer = chat.example(PROMPTS[0].messages, text)
        with torch.no_grad():
            raw = adapted(torch.tensor([prompt + answer])).logits[0, 0]
        normalized = float((raw - config.reward_mean) / config.reward_std)
        assert normalized == pytest.approx(float(score), abs=1e-4)


@pytest.mark.parametrize("merge_adapters", [False, True])
def test_a_checkpoint_has_the_data_type_of_its_base(tiny, tmp_path, monkeypatch, merge_adapters):
    monkeypatch.setattr("cai.train.checkpoint.MIN_BFLOAT16_HIDDEN_SIZE", 16)
    narrow = load_language_model(tiny, dtype=torch.float32)
    narrow.model.to(torch.bfloat16).save_pretrained(tmp_path / "base")
    narrow.tokenizer.save_pretrained(tmp_path / "base")
    lora = LORA.model_copy(update={"merge_adapters": merge_adapters})
    for training in (lora, Training(precision="float32")):
        out = tmp_path / f"out{training.lora_rank}"
        options = TrainerOptions(training=training)
        train_sft(ROWS, tmp_path / "base", out, SFT(epochs=1, batch_size=8), options=options)
        assert stored_dtype(str(out)) == torch.bfloat16
        if training.lora_rank is None or merge_adapters:
            weights = load_file(out / "model.safetensors")
            assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
            assert "lm_head.weight" not in weights  # it is tied, so it is stored once


def test_a_small_model_keeps_what_it_learned(tiny, tmp_path):
    """Rounded to bfloat16, the weights of the base, it would forget small steps."""
    base = load_language_model(tiny, dtype=torch.float32)
    base.model.to(torch.bfloat16).save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    config = SFT(epochs=1, batch_size=8, learning_rate=1e-5)
    train_sft(ROWS, tmp_path / "base", tmp_path / "out", config)
    weights = load_file(tmp_path / "out/model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    start = load_file(tmp_path / "base/model.safetensors")
    assert any(not torch.equal(weights[n], start[n].float()) for n in weights)


def test_lora_dpo_learns(tiny, tmp_path):
    config = DPO(epochs=6, batch_size=8, learning_rate=1e-2)
    metrics = train_dpo(preferences(), tiny, tmp_path, config, options=OPTIONS)
    assert metrics["loss_last"] < 0.5 * math.log(2)


@torch.no_grad()
def answer_logits(name, group):
    """Logits of the answers of a group by a plain model, one answer at a time."""
    model, _ = load_language_model(name, dtype=torch.float32)
    start = len(group.prompt) - 1
    rows = [torch.tensor([group.prompt + answer]) for answer in group.answers]
    return torch.cat([model(ids).logits[0, start:-1] for ids in rows])


def test_lora_reference_is_the_policy_without_adapters(tiny):
    actor_critic = ActorCritic(tiny, PPO(), LORA)
    group = PromptGroup([5, 6, 7], [[8, 9], [10]])
    before = actor_critic.forward([group])
    assert actor_critic.reference is None
    assert torch.allclose(before.logprobs, before.ref_logprobs)
    for name, parameter in actor_critic.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    after = actor_critic.forward([group])
    assert torch.allclose(after.ref_logprobs, before.ref_logprobs)
    assert not torch.allclose(after.logprobs, before.logprobs, atol=1e-2)
    packed = pack(actor_critic.model, [group], 0)
    with without_adapters(actor_critic.model):
        logits, _ = actor_critic.policy(packed)
    assert torch.allclose(logits, answer_logits(tiny, group), atol=1e-4)


def test_unknown_lora_target_is_an_error(tiny):
    training = Training(lora_rank=2, lora_targets=("query_proj",))
    message = r"none of query_proj is a linear layer; there are .*q_proj"
    with pytest.raises(InputError, match=message):
        load_policy(tiny, training)
