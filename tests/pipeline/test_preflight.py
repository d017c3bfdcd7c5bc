"""What a run would miss hours later is reported before it starts."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from commands import Lines, cai, run

from cai.config import RunConfig
from cai.constitution import load_constitution
from cai.errors import InputError
from cai.pipeline import packages, preflight
from cai.pipeline.preflight import check_run, check_training
from cai.pipeline.rejudge import effects
from cai.pipeline.stages import STAGES

WANTED = {
    "prompts": {
        "red_team": "none.jsonl",
        "benign": "prompts/few.jsonl",
        "eval_benign": "prompts/few.jsonl#prompt",
    },
    "reward": {"human": ["prompts/pairs.jsonl", "people.jsonl"], "test_sets": ["cells.jsonl"]},
    "constraint": {"model": "./old/reward"},
    "models": {"critic": "./nowhere"},
    "evaluate": {"gold": "my_gold:read"},
}


@pytest.fixture
def named(project):
    (project / "prompts").mkdir()
    (project / "prompts/few.jsonl").write_text('{"prompt": "Hello."}\n')
    (project / "prompts/pairs.jsonl").write_text(
        '{"prompt": "p", "chosen": "a", "rejected": "b"}\n'
    )
    (project / "named.yaml").write_text(
        "constitution: reference\n" + yaml.safe_dump(WANTED, sort_keys=False)
    )
    return project


def test_everything_missing_is_reported_before_a_run_begins(named):
    done = cai(named, "run", "named.yaml", "--run", "runs/r", check=False)
    assert done.returncode == 3 and not (named / "runs/r").exists()
    assert done.stderr.splitlines() == [
        "named.yaml:3:3: prompts.red_team: there is no none.jsonl",
        "named.yaml:9:5: reward.human: there is no people.jsonl",
        "named.yaml:11:5: reward.test_sets: there is no cells.jsonl",
        "named.yaml:13:3: constraint.model: ./old/reward: there is no folder old/reward",
        "named.yaml:15:3: models.critic: ./nowhere: there is no folder nowhere",
        "named.yaml:17:3: evaluate.gold: my_gold:read: cannot be imported: No module named 'my_gold'",
    ]
    checked = cai(named, "check", "named.yaml", check=False)
    assert checked.returncode == 3 and checked.stderr == done.stderr


def test_files_of_later_stages_may_be_missing(named):
    settings = [
        "prompts.red_team=prompts/few.jsonl",
        "models.critic=reference",
        "evaluate.gold=null",
    ]
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert (
        cai(
            named, "run", "named.yaml", *arguments, "--run", "runs/r", "--until", "prompts"
        ).returncode
        == 0
    )
    later = cai(
        named, "run", "named.yaml", *arguments, "--run", "runs/r", "--until", "reward", check=False
    )
    assert (
        later.returncode == 3
        and "people.jsonl" in later.stderr
        and "old/reward" not in later.stderr
    )


# -- in process, on a run file of few lines ---------------------------------------------------------------------------


@pytest.fixture
def run_file(tmp_path, monkeypatch):
    (tmp_path / "p.jsonl").write_text('{"prompt": "Hello."}\n')
    (tmp_path / "run.yaml").write_text(
        "constitution: general\nprompts: {red_team: p.jsonl, benign: p.jsonl}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run.yaml"


def refusals(path, *settings, until="", **how):
    with pytest.raises(InputError) as caught:
        check_run(path, settings, until, **how)
    return [str(problem).partition(": ")[2] for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "models.judge=http://host:8000/v1",
            "models.judge: http://host:8000/v1 has no model name; write http://host:8000/v1#model",
        ),
        (
            "models.judge=htp://host/v1#m",
            "models.judge: htp://host/v1 does not begin with http:// or https:// (did you mean 'http'?)",
        ),
        (
            "models.critic=none_such:make",
            "models.critic: none_such:make: cannot be imported: No module named 'none_such'",
        ),
        (
            "models.critic=json:make",
            "models.critic: json:make: cannot be imported: module 'json' has no attribute 'make'",
        ),
        ("models.critic=sys:version", "models.critic: sys:version: is not callable"),
        (
            "evaluate.gold=broken:gold",
            "evaluate.gold: broken:gold: cannot be imported: ZeroDivisionError: division by zero",
        ),
        (
            "models.reward=http://host/v1#m",
            "models.reward: this model is trained, so it must be a folder or a hub id",
        ),
        ("models.reward=a/b/c", "models.reward: a/b/c: there is no folder {base}/a/b/c or a/b/c"),
        (
            "models.judge=host:8000/v1#m",
            "models.judge: host:8000/v1#m: there is no folder {base}/host:8000/v1#m or host:8000/v1#m",
        ),
        (
            "models.judge=empty",
            "models.judge: the folder {base}/empty has no config.json, so it is not a model",
        ),
    ],
)
def test_model_names_are_checked_where_they_are_given(run_file, setting, expected):
    (run_file.parent / "broken.py").write_text("1 / 0\n")
    (run_file.parent / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        check_run(run_file, [setting])
    key = setting.partition("=")[0]
    assert str(caught.value) == f"--set {key}: {expected.format(base=run_file.parent)}"


def test_more_principles_than_the_constitution_has_are_named_before_the_run(run_file):
    setting = "judge.principles=9"
    assert refusals(run_file, setting) == ["judge.principles: general has 1 principles to judge by"]
    assert check_run(run_file, [setting], "revise").config.judge.principles == 9


def test_models_of_stages_after_until_are_not_checked(run_file):
    settings = [
        "models.critic=./none",
        "models.judge=./none",
        "models.reward=./none",
        "evaluate.gold=none:gold",
    ]
    counts = {
        until: len(refusals(run_file, *settings, until=until))
        for until in ("revise", "compare", "judge", "reward", "evaluate", "")
    }
    assert counts == {"revise": 1, "compare": 1, "judge": 2, "reward": 3, "evaluate": 4, "": 4}
    assert check_run(run_file, settings, "sample").config.models.critic == "./none"
    assert check_run(run_file, settings, models=False).constitution.name == "general"


@pytest.mark.parametrize(
    ("setting", "package", "expected"),
    [
        (
            "training.lora_rank=8",
            "peft",
            'training.lora_rank: adapters need the peft package: pip install "cai[lora]"',
        ),
        (
            "models.judge=http://h/v1#m",
            "openai",
            'models.judge: requests to a server need openai: pip install "cai[server]"',
        ),
        ("trackers=[wandb]", "wandb", "trackers: wandb is not installed: pip install wandb"),
        (
            "trackers=[tensorboard]",
            "tensorboard",
            "trackers: tensorboard is not installed: pip install tensorboard",
        ),
    ],
)
def test_missing_package_is_named_before_the_run(run_file, monkeypatch, setting, package, expected):
    found = set()
    monkeypatch.setattr(
        packages.importlib.util,
        "find_spec",
        lambda name: found.add(name) or (None if name.startswith(package) else name),
    )
    assert refusals(run_file, setting) == [expected] and package in found
    if setting.startswith(("track", "training")):
        assert check_run(run_file, [setting], "revise").config.seed == 0, (
            "nothing is trained by then"
        )
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: name)
    assert check_run(run_file, [setting]).config.seed == 0


def test_every_model_of_a_run_file_is_opened_by_a_stage():
    roles = {role for stage in STAGES for role in stage.models}
    models = RunConfig.model_fields["models"].annotation.model_fields
    assert roles == set(models) - {"chat_format", "enable_thinking", "reasoning_tokens"} | {
        "constraint"
    }


def test_servers_are_pinged_online_once_each(run_file, monkeypatch):
    asked = []
    monkeypatch.setattr(
        preflight.ping,
        "ping",
        lambda url, model, chat_format, **_: asked.append((url, model)) or f"{url} is down",
    )
    judge = "models.judge=http://one/v1,http://two/v1#m"
    assert check_run(run_file, [judge]).source.name == "general.yaml" and not asked
    assert refusals(run_file, judge, online=True) == [
        "models.judge: http://one/v1 is down",
        "models.judge: http://two/v1 is down",
    ]
    assert asked == [("http://one/v1", "m"), ("http://two/v1", "m")]


def test_names_are_looked_up_beside_the_run_file(run_file, tmp_path_factory, monkeypatch):
    folder = run_file.parent / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (run_file.parent / "critic_beside_it.py").write_text("def make(): pass\n")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    settings = ["models.initial=model", "models.critic=critic_beside_it:make"]
    ready = check_run(run_file, settings)
    assert ready.config.models.initial == "model", (
        "names stay as they are written, so that a run can be moved"
    )


def test_training_file_is_checked_for_one_stage(run_file):
    path = run_file.parent / "train.yaml"
    path.write_text(
        "out: o\ndata: {preferences: [none.jsonl]}\nreward: {test_sets: [cells.jsonl]}\nconstraint: {model: ./g}\nreward_model: ./r\n"
    )
    counts = {}
    for stage in ("", "reward", "ppo"):
        with pytest.raises(InputError) as caught:
            check_training(path, stage=stage)
        counts[stage] = len(caught.value.problems)
    assert counts == {"": 4, "reward": 1, "ppo": 2}
    assert (
        check_training(path, stage="sft").out == "o"
        and check_training(path, stage="dpo").out == "o"
    )


def test_human_preferences_are_checked_if_a_stage_reads_them(run_file):
    both = ["reward.human=[p.jsonl]"]
    assert check_run(run_file, both, "sample").config.reward.human == ("p.jsonl",)
    assert "has no known preference format" in refusals(run_file, *both)[0]


def test_open_run_finds_functions_beside_the_run_file(run_file, tmp_path_factory):
    from cai.functions import function_of
    from cai.pipeline.run import open_run

    beside = tmp_path_factory.mktemp("beside")
    (beside / "only_beside_the_run_file.py").write_text("def make(): pass\n")
    ready = check_run(run_file)
    with open_run(run_file.parent / "r", ready.config, ready.constitution, beside):
        assert function_of("only_beside_the_run_file:make").__name__ == "make"


def test_a_run_lets_its_folder_go(run_file):
    from cai.pipeline.run import open_run

    ready = check_run(run_file)
    arguments = (run_file.parent / "r", ready.config, ready.constitution, run_file.parent)
    with open_run(*arguments) as run, pytest.raises(InputError, match="in use"):
        open_run(*arguments)
    with pytest.raises(InputError, match="closed database"):
        run.cache.totals()
    with open_run(*arguments) as run:
        assert run.cache.totals() == {}


def test_a_run_that_cannot_open_lets_its_folder_go(run_file):
    from cai.pipeline.run import open_run

    ready = check_run(run_file)
    arguments = (run_file.parent / "r", ready.config, ready.constitution, run_file.parent)
    with open_run(*arguments) as run:
        cache = run.folder / "responses.sqlite"
    cache.write_bytes(b"something else" * 100)
    with pytest.raises(InputError, match="not a response cache") as kept:
        open_run(*arguments)
    cache.unlink()
    with open_run(*arguments) as run:  # the error and its frames are still there
        assert kept.value.problems and run.cache.totals() == {}


# -- a whole run and a training from another folder -------------------------------------------------------------------

CRITIC = """
from cai.backends.scripted import ScriptedBackend

def make():
    return ScriptedBackend(lambda messages, seed: "With soap.", lambda messages, options: (0.0, -1.0), name="beside")
"""


def test_run_finds_files_models_and_functions_beside_its_file(project, taught, tmp_path_factory):
    examples = project / "examples"
    shutil.copytree(taught, examples / "model")
    (examples / "critic_of_this_run.py").write_text(CRITIC)
    config = yaml.safe_load((examples / "run.yaml").read_text())
    models = {"initial": "model", "critic": "critic_of_this_run:make", "reward": "model"}
    (examples / "run.yaml").write_text(
        yaml.safe_dump(config | {"models": models, "constitution": "small"})
    )
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "runs/r/sft/checkpoint").mkdir(parents=True)  # never mistaken for the run's own
    arguments = ("run", str(examples / "run.yaml"), "--run", str(project / "runs/r"))
    done = cai(elsewhere, *arguments, "--until", "sft")
    expected = f"constitution ../{project.name}/constitution/small.yaml ("
    assert done.stdout.splitlines()[0].startswith(expected)
    path = project / "runs/r/revise/records.jsonl"
    revisions = [json.loads(line) for line in path.read_text().splitlines()]
    assert {step["revision"] for row in revisions for step in row["steps"]} == {"With soap."}
    lines = Lines()
    run(project, until="sft", reporter=lines)
    assert lines.done == []
    constitution = load_constitution(project / "constitution/small.yaml")
    assert effects(project / "runs/r", constitution).requests == 0


def test_training_finds_its_model_beside_its_file(project, taught, tmp_path_factory):
    shutil.copytree(taught, project / "model")
    (project / "train.yaml").write_text(
        "model: model\nout: out\ndata: {preferences: [examples/human.jsonl]}\nsft: {epochs: 1}\n"
    )
    done = cai(tmp_path_factory.mktemp("elsewhere"), "sft", str(project / "train.yaml"))
    assert (
        project / "out/sft/model.safetensors"
    ).is_file() and f"saved: {project}/out/sft" in done.stdout


def test_check_imports_no_heavy_library(project):
    loaded = "import sys; from cai.cli.app import app; app(['check', 'examples/run.yaml'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded], cwd=project, capture_output=True, text=True, check=True
    )
    assert not {"torch", "transformers", "datasets", "accelerate", "openai", "matplotlib"} & set(
        done.stdout.split()
    )
