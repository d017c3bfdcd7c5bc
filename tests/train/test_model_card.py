"""The card beside a trained model."""

import json

import pytest
import yaml

from cai.config import DPO, PPO, SFT, Reward, Training
from cai.train.model_card import model_card

CONFIGS = {"sft": SFT(), "reward": Reward(), "ppo": PPO(), "dpo": DPO()}


def front_matter(card):
    _, front, _ = card.split("---\n", 2)
    return yaml.safe_load(front)


@pytest.mark.parametrize("stage", CONFIGS)
def test_model_card_has_metadata_metrics_and_settings(stage):
    metrics = {"loss_last": 0.123456, "rows": 12, "by_principle": {}}
    card = model_card(stage, "some/model", CONFIGS[stage], Training(lora_rank=4), metrics)
    metadata = front_matter(card)
    assert metadata["base_model"] == "some/model"
    assert stage in metadata["tags"]
    is_reward = stage == "reward"
    assert metadata["pipeline_tag"] == ("text-classification" if is_reward else "text-generation")
    assert ("reward_mean" in card) == is_reward
    assert "| loss last | 0.1235 |\n| rows | 12 |" in card
    assert "by principle" not in card
    assert "PeftModel.from_pretrained(base" in card
    assert (", num_labels=1)" in card) == is_reward
    merged = Training(lora_rank=4, merge_adapters=True)
    assert "peft" not in model_card(stage, "some/model", CONFIGS[stage], merged, metrics)
    settings = json.loads(card.split("```json\n")[1].split("```")[0])
    assert settings[stage] == CONFIGS[stage].model_dump(mode="json")
    assert settings["training"]["lora_rank"] == 4


def test_equal_runs_in_two_folders_have_equal_cards(tmp_path):
    cards = set()
    for run in ("here", "elsewhere/there"):
        base = tmp_path / run / "sft/checkpoint"
        base.mkdir(parents=True)
        cards.add(model_card("ppo", str(base), PPO(), Training(), {"kl": 1.0}))
    (card,) = cards
    assert "from `sft/checkpoint`" in card and str(tmp_path) not in card


def test_model_card_escapes_the_name_of_the_base():
    base = 'a: "strange" #name'
    metadata = front_matter(model_card("sft", base, SFT(), Training(), {}))
    assert metadata["base_model"] == base


def test_model_card_names_no_folder_as_base_model(tmp_path):
    card = model_card("sft", str(tmp_path), SFT(), Training(), {})
    assert "base_model" not in front_matter(card)
    assert "adapter" not in card.split("## Settings")[0]
