"""Every setting is described, and what is printed can be read back."""

import re

import pytest
import yaml
from pydantic import BaseModel

from cai.config import RunConfig, TrainingConfig, load_config, load_training
from cai.config.describe import described, json_schema, settings_text


def sections(kind):
    yield kind
    for field in kind.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation)


@pytest.mark.parametrize("kind", [RunConfig, TrainingConfig])
def test_every_setting_is_described(kind):
    for section in sections(kind):
        assert section.__doc__, section
        leaves = [
            n
            for n, f in section.model_fields.items()
            if not (isinstance(f.annotation, type) and issubclass(f.annotation, BaseModel))
        ]
        assert [name for name in leaves if not described(section).get(name)] == [], section


@pytest.mark.parametrize(
    ("kind", "read", "given"),
    [
        (RunConfig, load_config, {"constitution": "x", "red_team": "r"}),
        (TrainingConfig, load_training, {"out": "o"}),
    ],
)
def test_printed_settings_are_a_file_of_all_defaults(tmp_path, kind, read, given):
    text = settings_text(kind)
    text = text.replace("red_team: null", "red_team:  # required", 1)  # or one under `revised`
    assert len(re.findall("required", text)) == len(given)
    for name, value in given.items():
        text = text.replace(f"{name}:  # required", f"{name}: {value}")
    (tmp_path / "f.yaml").write_text(text)
    prompts = (
        {"prompts": {k: v for k, v in given.items() if k != "constitution"}}
        if kind is RunConfig
        else {}
    )
    bare = kind.model_validate({k: v for k, v in given.items() if k in kind.model_fields} | prompts)
    assert read(tmp_path / "f.yaml") == bare


def test_a_setting_that_may_be_null_says_so():
    text = settings_text(RunConfig)
    assert "  critic: null  # text, or null\n" in text
    assert "  chat_format: null  # chat | transcript | plain, or null\n" in text
    assert 'algorithms: ["ppo"]  # a list of ppo | dpo\n' in text
    assert "    samples_per_prompt: 1  # >= 1\n" in text


@pytest.mark.parametrize("kind", [RunConfig, TrainingConfig])
def test_json_schema_describes_every_setting(kind):
    schema = json_schema(kind)
    for section in (schema, *schema["$defs"].values()):
        for name, setting in section["properties"].items():
            assert "description" in setting or "$ref" in setting, (section["title"], name)
    assert schema["$defs"]["PPO"]["properties"]["num_updates"]["minimum"] == 1


def test_one_section_and_allowed_values():
    text = settings_text(RunConfig, "judge")
    assert yaml.safe_load(text)["judge"]["method"] == "option_logprobs" and list(
        yaml.safe_load(text)
    ) == ["judge"]
    assert (
        "  method: option_logprobs  # option_logprobs | critique | sampled_votes | chain_of_thought\n"
        in text
    )
    ppo = settings_text(RunConfig, "ppo")
    assert (
        "  adaptive_kl_target: null  # > 0, or null\n" in ppo
        and "  gae_lambda: 0.95  # 0 to 1\n" in ppo
        and "  epochs: 4  # >= 1\n" in ppo
    )
