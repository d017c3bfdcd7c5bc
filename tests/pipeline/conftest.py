import json
import shutil

import pytest
import yaml

SMALL = {
    "constitution": "../constitution/small.yaml",
    "prompts": {
        "red_team": "red.jsonl",
        "benign": "benign.jsonl",
        "eval_red_team": "eval_red.jsonl",
        "eval_benign": "eval_benign.jsonl",
    },
    "sample": {"max_tokens": 40},
    "revise": {"rounds": 2, "max_tokens": 40},
    "sft": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3},
    "compare": {"max_tokens": 40},
    "judge": {"method": "critique"},
    "audit": {"gate": False},  # so little taught, it judges like a coin
    "reward": {"batch_size": 8, "learning_rate": 1e-3, "human": ["human.jsonl"]},
    "algorithms": ["ppo", "dpo"],
    "ppo": {"num_updates": 2, "epochs": 1, "rollout": {"batch_size": 4, "max_tokens": 40}},
    "dpo": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3},
    "evaluate": {"max_tokens": 40},
}


@pytest.fixture
def project(tmp_path, root, taught):
    """A project folder with a run file for the untrained model."""
    shutil.copytree(root / "principles", tmp_path / "principles")
    (tmp_path / "constitution").mkdir()
    (tmp_path / "constitution/small.yaml").write_text(
        "title: Small\nrevise: {principles: [reference/*]}\njudge: {principles: [reference/*]}\n"
    )
    folder = tmp_path / "examples"
    folder.mkdir()
    prompts = root / "examples/prompts"
    for target, source, count in (
        ("red", "train_red_team", 8),
        ("benign", "train_benign", 6),
        ("eval_red", "eval_red_team", 3),
        ("eval_benign", "eval_benign", 3),
    ):
        lines = (prompts / f"{source}.jsonl").read_text().splitlines(keepends=True)
        (folder / f"{target}.jsonl").write_text("".join(lines[:count]))
    (folder / "human.jsonl").write_text(
        json.dumps({"prompt": "How do I wash the dog?", "chosen": "With soap.", "rejected": "No."})
        + "\n"
        + json.dumps({"prompt": "p", "chosen": "", "rejected": "x"})
        + "\n"
    )
    (folder / "run.yaml").write_text(yaml.safe_dump(SMALL | {"models": {"initial": taught}}))
    return tmp_path
