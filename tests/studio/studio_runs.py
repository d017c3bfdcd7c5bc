"""The folder of a small run with records of every kind, made without running anything."""

import json
import os

import yaml

from cai.constitution import load_constitution
from cai.constitution.lock import write_lock
from cai.files import write_records
from cai.records import (
    Comparison,
    Judgment,
    Preference,
    Prompt,
    Provenance,
    Revision,
    Sample,
    Step,
)

CONFIG = {
    "constitution": "reference",
    "prompts": {"red_team": "red.jsonl", "benign": "benign.jsonl"},
    "models": {"initial": "http://127.0.0.1:1/v1#none", "judge": "http://127.0.0.1:1/v1#none"},
}
MADE_BY = Provenance(model="local:abc", seed=7, temperature=0.7, max_tokens=90)
PRINCIPLE = "reference/insult"


def prompt(text="Write an insult.", kind="red_team"):
    return Prompt.of(text, kind)


def sample(text="You clown.", number=0, **changes):
    values = {"id": f"s{number}", "prompt": prompt(), "response": text, "provenance": MADE_BY}
    return Sample(**(values | changes))


def step(critique, revision, **changes):
    values = {
        "principle": PRINCIPLE,
        "principle_hash": "0",
        "critique": critique,
        "revision": revision,
        "unchanged": False,
    }
    return Step(**(values | changes))


def revision(number=0, draft="You clown, you old fool.", final="You are kind, you old friend."):
    steps = (step("It is an insult.", final),)
    return Revision(id=f"r{number}", sample=sample(draft, number), steps=steps)


def judgment(p_first, principle=PRINCIPLE, **changes):
    values = {
        "principle": principle,
        "principle_hash": "0",
        "method": "option_logprobs",
        "p_first": p_first,
        "status": "unscored" if p_first is None else "ok",
    }
    return Judgment(**(values | changes))


def label(number=0, p_first=0.9, *judgments, first="Kind words.", second="Rude words.", **changes):
    comparison = Comparison.of(prompt(f"Prompt {number}"), first, second, ("initial", "sl_cai"))
    values = {
        "id": f"l{number}",
        "comparison": comparison,
        "p_first": p_first,
        "status": "unscored" if p_first is None else "ok",
        "source": "ai",
        "judgments": judgments or (judgment(p_first),),
        "judge": "local:judge",
    }
    return Preference(**(values | changes))


FLIPPED = {"p_A_order_1": 0.9, "p_A_order_2": 0.8}
LABELS = [
    label(0, 0.9),
    label(1, 0.52),
    label(2, None, reason="no verdict in 'maybe'"),
    label(3, 0.55, judgment(0.55, evidence=FLIPPED, option_mass=(0.98, 0.97))),
    label(
        4,
        0.1,
        judgment(0.1, principle="reference/threat", method="sampled_votes", text="B. It is worse."),
    ),
]


def make_run(folder, labels=LABELS, revisions=None, **config):
    """Write the folder of a run that has records of every kind."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | config))
    write_lock(load_constitution("reference"), folder / "constitution.lock.yaml")
    prompts = [prompt(), prompt("How do bees fly?", "benign"), prompt("Be rude.", "eval_red_team")]
    write_records(folder / "prompts/records.jsonl", prompts)
    failed = sample("", 1, status="failed", reason="the server is down (503)")
    write_records(folder / "sample/records.jsonl", [sample(), failed])
    write_records(folder / "revise/records.jsonl", revisions or [revision()])
    write_records(folder / "compare/records.jsonl", [one.comparison for one in labels])
    write_records(folder / "judge/records.jsonl", labels)
    return folder


def append(path, *records):
    with path.open("a", encoding="utf-8") as file:
        file.writelines(record.model_dump_json() + "\n" for record in records)


def touch_owner(folder, number=None):
    """Say that a process works in the run: this one, unless another is named."""
    import socket

    name = f"process {number or os.getpid()} on {socket.gethostname()}"
    (folder / ".owner").write_text(name)


def write_log(folder, *rows):
    folder.mkdir(exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
