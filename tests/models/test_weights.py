"""Weights that a model's files do not hold are never made up: the model is refused, and the weights are named."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from cai.config import PPO, PPORollout
from cai.errors import InputError
from cai.models.load import load_language_model
from cai.models.packing.layout import PromptGroup, pack
from cai.models.scalar import answer_scores, load_scalar_model
from cai.records import Prompt
from cai.train.ppo.rewards import reward_scorer
from cai.train.ppo.trainer import train_ppo

GROWN = {"new_head": True}


@pytest.fixture
def changed(tiny, tmp_path):
    """A copy of the tiny model, of which some weights, and values of the config, are others (or none)."""

    def copy(weights, **config):
        folder = tmp_path / "changed"
        shutil.copytree(tiny, folder)
        found = load_file(folder / "model.safetensors") | weights
        save_file(
            {k: v for k, v in found.items() if v is not None},
            folder / "model.safetensors",
            metadata={"format": "pt"},
        )
        (folder / "config.json").write_text(
            json.dumps(json.loads((folder / "config.json").read_text()) | config)
        )
        return str(folder)

    return copy


def refusal(opened, *args, **how):
    with pytest.raises(InputError) as error:
        opened(*args, **how)
    (problem,) = error.value.problems
    assert "\n" not in problem.message and problem.where == args[0]
    return problem.message


def test_a_language_model_is_no_reward_model(tiny, tmp_path):
    for opened in (load_scalar_model, reward_scorer):
        assert refusal(opened, tiny) == (
            "is not a reward model: it has no trained scalar head (score.weight is missing); train one with cai reward"
        )
    with pytest.raises(InputError, match=r"score\.weight is missing"):
        train_ppo(
            [Prompt.of("Hello.")],
            tiny,
            tmp_path / "out",
            PPO(num_updates=1, rollout=PPORollout(batch_size=2, max_tokens=2)),
            reward_model=tiny,
        )
    assert not (tmp_path / "out").exists()


def test_a_head_is_grown_where_that_is_asked_for(tiny, tmp_path):
    load_scalar_model(tiny, new_head=True).model.save_pretrained(tmp_path)
    shutil.copy(f"{tiny}/tokenizer.json", tmp_path)
    shutil.copy(f"{tiny}/tokenizer_config.json", tmp_path)
    load_scalar_model(str(tmp_path))


@pytest.mark.parametrize(("opened", "how"), [(load_language_model, {}), (load_scalar_model, GROWN)])
def test_missing_weights_are_named(changed, opened, how):
    folder = changed({"model.layers.1.mlp.up_proj.weight": None})
    assert (
        refusal(opened, folder, **how)
        == "weights are missing: model.layers.1.mlp.up_proj.weight; fetch or save the model again"
    )


def test_of_many_missing_weights_a_few_are_named(changed):
    names = [f"model.layers.1.self_attn.{part}_proj.weight" for part in "qkvo"]
    shown = "model.layers.1.self_attn.k_proj.weight, model.layers.1.self_attn.o_proj.weight, model.layers.1.self_attn.q_proj.weight"
    assert f"weights are missing: {shown} and 1 more;" in refusal(
        load_language_model, changed(dict.fromkeys(names))
    )


def test_an_output_layer_that_is_neither_saved_nor_shared_is_missing(changed):
    assert "weights are missing: lm_head.weight;" in refusal(
        load_language_model, changed({}, tie_word_embeddings=False)
    )


@pytest.mark.parametrize(("opened", "how"), [(load_language_model, {}), (load_scalar_model, GROWN)])
def test_weights_of_another_shape_are_named(changed, opened, how):
    folder = changed({"model.norm.weight": torch.ones(16)})
    assert (
        refusal(opened, folder, **how)
        == "weights do not fit the model's config.json: model.norm.weight is [16], not [32]"
    )


@pytest.mark.parametrize(("opened", "how"), [(load_language_model, {}), (load_scalar_model, GROWN)])
def test_weights_without_a_place_under_a_changed_model_type_are_named(changed, tiny, opened, how):
    biases = {
        f"model.layers.{i}.self_attn.{part}_proj.bias": torch.ones(32)
        for i in (0, 1)
        for part in "qkv"
    }
    shown = ", ".join(f"model.layers.0.self_attn.{part}_proj.bias" for part in "kqv")
    assert refusal(opened, changed(biases), **how) == (
        f"weights have no place in the model of config.json: {shown} and 3 more; see model_type"
    )


def test_weights_of_another_head_are_no_fault(changed):
    load_language_model(changed({"score.weight": torch.ones(1, 32), "value.bias": torch.ones(1)}))


@pytest.mark.parametrize("labels", [2, 5])
def test_a_model_with_several_labels_is_no_reward_model_but_one_can_grow_from_it(
    tiny, tmp_path, labels
):
    model = AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=labels)
    shutil.copytree(tiny, tmp_path / "several")
    model.save_pretrained(tmp_path / "several")
    name = str(tmp_path / "several")
    message = refusal(load_scalar_model, name)
    assert message.startswith(f"gives {labels} numbers for a text (LABEL_0, LABEL_1")
    assert message.endswith(f"name one of them: {name}#LABEL_{labels - 1}")
    assert "has no label 'good'" in refusal(load_scalar_model, name + "#good")
    rows = torch.tensor([[5, 6, 7, 8]])
    packed = pack(model, [PromptGroup([5, 6], [[7, 8]])], 0)
    with torch.no_grad():
        chosen = answer_scores(load_scalar_model(name + "#LABEL_1").model, packed)
        assert torch.allclose(chosen, model.eval()(rows).logits[:, 1], atol=1e-5)
    assert load_scalar_model(str(tmp_path / "several"), new_head=True).model.config.num_labels == 1
