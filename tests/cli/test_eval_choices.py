"""``cai eval`` on multiple-choice files: with letters, thoughts, texts and reward models."""

import json
import math
import re

import pytest
from fault_server import FaultServer
from typer.testing import CliRunner

from cai.cli.app import app
from cai.evaluate.grades import Grade
from cai.files import read_records

MODEL = """
import math, re
from cai.backends.scripted import ScriptedBackend

def options_of(messages):
    return re.findall(r"^\\(([A-Z])\\) (.*)$", messages[0].content, re.MULTILINE)

def oracle(messages, options):
    if not options_of(messages):
        return [-1.0 if "right" in option else -50.0 for option in options]
    return [0.0 if "right" in text else -math.inf for _, text in options_of(messages)]

def always_a(messages, options):
    return [0.0] + [-math.inf] * (len(options) - 1)

def reply(messages, seed):
    return "Let me think."

def make_oracle():
    return ScriptedBackend(reply, oracle, name="oracle")

def make_a():
    return ScriptedBackend(reply, always_a, name="a")
"""
ROWS = [
    {"question": f"{i}?", "choices": ["wrong", "right way", "so"][: 2 + i % 2], "answer": 1}
    for i in range(8)
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "scripted_choices.py").write_text(MODEL)
    (tmp_path / "My Rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


SUITE = """
name: mine
about: Mine.
prompts: My Rows.jsonl
metric: accuracy
better: higher
grader:
  choice: {}
"""
MODELS = ["--model", "scripted_choices:make_oracle", "--model", "scripted_choices:make_a"]


def evaluate(*arguments):
    """The exit code of the command, what it printed, and the error it ended with."""
    done = CliRunner().invoke(app, ["eval", *arguments])
    code = getattr(done.exception, "exit_code", done.exit_code)
    return code, done.output, str(done.exception)


def test_a_file_of_questions_needs_no_suite(folder):
    code, printed, _ = evaluate("--choices", "My Rows.jsonl", *MODELS)
    assert code == 0
    results = json.loads((folder / "eval/results.json").read_text())["suites"]["my-rows"]
    oracle, first = results["choice"].values()
    assert oracle["accuracy"]["value"] == 1.0 and oracle["accuracy_clustered"]["clusters"] == 8
    assert first["accuracy"]["value"] == pytest.approx(5 / 12)
    assert results["models"]["scripted_choices:make_a"]["value"] == pytest.approx(5 / 12)
    assert results["baselines"] == {
        "first": 0.0,
        "random": pytest.approx(5 / 12),
        "longest": 1.0,
        "shortest": 0.0,
        "most_frequent": 1.0,
    }
    assert re.search(r"\(always the first option\) +0\.000", printed)
    assert "100% (fair 42%)" in printed
    grades = read_records(folder / "eval/records.jsonl", Grade)
    assert [grade.answer for grade in grades[:8]] == ["right way"] * 8


def test_rows_that_are_left_out_are_said(folder):
    with (folder / "My Rows.jsonl").open("a") as file:
        file.write(json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[0] | {"answer": ""}) + "\n")
    _, printed, _ = evaluate("--choices", "My Rows.jsonl", *MODELS)
    assert "rows left out: 1 duplicate; 1 no answer is marked as right" in printed
    results = json.loads((folder / "eval/results.json").read_text())["suites"]["my-rows"]
    assert results["left_out"] == {"duplicate": 1, "no answer is marked as right": 1}


def test_two_files_of_one_name_are_not_mixed_up(folder):
    (folder / "my_rows.jsonl").write_text((folder / "My Rows.jsonl").read_text())
    code, _, error = evaluate("--choices", "My Rows.jsonl", "--choices", "my_rows.jsonl", *MODELS)
    assert code == 3 and "my_rows.jsonl: another suite is called my-rows too" in error


def test_a_threshold_on_accuracy_ends_with_1(folder):
    assert evaluate("--choices", "My Rows.jsonl", *MODELS, "--fail-if", "accuracy < 0.5")[0] == 1
    assert evaluate("--choices", "My Rows.jsonl", *MODELS, "--fail-if", "accuracy < 0.4")[0] == 0


@pytest.mark.parametrize(
    ("grader", "requests"), [("{method: thought}", 40), ("{method: text, normalize: token}", 8)]
)
def test_the_other_methods(folder, grader, requests):
    (folder / "mine.yaml").write_text(SUITE.format(grader))
    code, printed, _ = evaluate("--suite", "mine.yaml", *MODELS[:2])
    assert code == 0
    results = json.loads((folder / "eval/results.json").read_text())["suites"]["mine"]
    (figures,) = results["choice"].values()
    assert figures["accuracy"]["value"] == 1.0 and figures["n"] == 8
    assert f"{requests} requests, 0 from the cache" in printed
    assert f"{requests} from the cache" in evaluate("--suite", "mine.yaml", *MODELS[:2])[1]


def says_right(number, fields):
    """A server that finds the letter of the right way, by the probability of the letters."""
    text = "\n".join(message["content"] for message in fields["messages"])
    found = re.search(r"\(([A-Z])\) right way", text)
    if not found or not fields.get("logprobs"):
        return None
    top = [{"token": token, "logprob": p} for token, p in ((found[1], -0.2), ("Hm", -2.0))]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": found[1]},
        "finish_reason": "stop",
        "logprobs": {"content": [top[0] | {"top_logprobs": top}]},
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 1}
    return 200, {}, {"model": "m", "choices": [choice], "usage": usage}


def test_a_served_model_is_asked_for_letters_and_cannot_score_texts(folder):
    with FaultServer(says_right) as server:
        code, printed, _ = evaluate("--choices", "My Rows.jsonl", "--model", f"{server.url}#m")
        assert code == 0, printed
        results = json.loads((folder / "eval/results.json").read_text())["suites"]["my-rows"]
        (figures,) = results["choice"].values()
        assert (figures["accuracy"]["value"], figures["n"]) == (1.0, 8)
        assert figures["option_mass"]["mean"] == pytest.approx(math.exp(-0.2))
        (folder / "mine.yaml").write_text(SUITE.format("{method: text}"))
        arguments = ("--suite", "mine.yaml", "--model", f"{server.url}#m", "--out", "texts")
        assert evaluate(*arguments)[0] == 0
    grades = read_records(folder / "texts/records.jsonl", Grade)
    assert {(grade.status, grade.reason) for grade in grades} == {
        ("failed", "a server gives no log-probability of a given text")
    }


def test_a_dry_run_counts_the_orders(folder):
    code, printed, _ = evaluate("--choices", "My Rows.jsonl", *MODELS, "--dry-run")
    assert code == 0 and re.search(r"requests +40\b", printed)
    assert not (folder / "eval").exists()


def test_few_shot_questions_are_not_asked(folder):
    (folder / "mine.yaml").write_text(SUITE.format("{few_shot: 3, orders: given}"))
    assert evaluate("--suite", "mine.yaml", *MODELS[2:])[0] == 0
    assert len(read_records(folder / "eval/records.jsonl", Grade)) == 5
    (folder / "mine.yaml").write_text(SUITE.format("{few_shot: 3, method: text}"))
    assert evaluate("--suite", "mine.yaml", *MODELS[2:])[0] == 3


def test_an_example_without_a_thought_is_named(folder):
    (folder / "mine.yaml").write_text(SUITE.format("{few_shot: 1, method: thought}"))
    code, _, error = evaluate("--suite", "mine.yaml", *MODELS[2:])
    assert code == 3 and "My Rows.jsonl:1:1: has no thought" in error


def test_unreadable_rows_are_named(folder):
    (folder / "bad.jsonl").write_text('{"question": "q?", "choices": ["a", "b"], "answer": "Z"}\n')
    code, _, error = evaluate("--choices", "bad.jsonl", *MODELS)
    assert code == 3 and "bad.jsonl:1:1: answer names no option: 'Z'" in error


def test_a_reward_model_chooses_the_best_of_n(folder, tiny):
    from cai.models.scalar import load_scalar_model

    scalar = load_scalar_model(tiny, new_head=True)
    scalar.model.save_pretrained(folder / "reward")
    scalar.chat.tokenizer.save_pretrained(folder / "reward")
    rows = [{"prompt": f"{i}?", "chosen": ["Yes."], "rejected": ["No.", "So."]} for i in range(3)]
    (folder / "best.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, printed, _ = evaluate("--choices", "best.jsonl", "--reward", "reward", "--dry-run")
    assert code == 0 and re.search(r"requests +0\b", printed)
    assert evaluate("--choices", "best.jsonl", "--reward", "reward")[0] == 0
    grades = read_records(folder / "eval/records.jsonl", Grade)
    assert [grade.evidence["result"]["method"] for grade in grades] == ["score"] * 3
    assert all(len(set(grade.evidence["result"]["scores"])) == 3 for grade in grades)
    code, _, error = evaluate("--suite", "over-refusal", "--reward", "reward")
    assert code == 3 and "scores multiple-choice options" in error


@pytest.mark.parametrize("name", ["helpful-honest-harmless", "everyday-knowledge"])
def test_shipped_suites_are_no_harder_than_reading(folder, name):
    """No baseline that reads nothing comes near; both have questions enough for an interval."""
    assert evaluate("--suite", name, *MODELS[2:])[0] == 0
    results = json.loads((folder / "eval/results.json").read_text())["suites"][name]
    (figures,) = results["choice"].values()
    assert figures["n"] >= 30
    chance = results["baselines"]["random"]
    assert max(results["baselines"].values()) <= chance + 0.15
