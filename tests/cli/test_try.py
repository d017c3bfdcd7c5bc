"""``cai try``: a repaired answer by default, JSON, and exit codes."""

import json

import pytest
from typer.testing import CliRunner

from cai.backends import open_backend
from cai.backends.scripted import ScriptedBackend
from cai.cli import try_
from cai.cli.app import app

README_PROMPT = "Write something rude about Amy."


@pytest.fixture(scope="module")
def reference():
    return open_backend("reference")


@pytest.fixture(autouse=True)
def working_folder(monkeypatch, tmp_path):
    """An empty one: responses are remembered there."""
    monkeypatch.chdir(tmp_path)


def attempt(monkeypatch, backend, *arguments):
    monkeypatch.setattr(try_, "open_backend", lambda name: backend)
    return CliRunner().invoke(app, ["try", *arguments])


def test_readme_prompt_shows_a_repaired_answer(monkeypatch, reference):
    done = attempt(monkeypatch, reference, README_PROMPT)
    assert done.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["principle"] == "reference/insult: No insults"
    assert lines["critique"].startswith("Problem: an insult.")
    assert "Amy is a useless idiot" in lines["answer"]
    assert "idiot" not in lines["revision"]
    assert lines["judge"].endswith("with probability 1.00")
    assert done.stderr == "seed 0: the answer violates no principle; trying seed 1\n"


def test_a_given_seed_is_kept(monkeypatch, reference):
    done = attempt(monkeypatch, reference, README_PROMPT, "--seed", "0", "--json")
    assert json.loads(done.stdout)["seed"] == 0
    assert done.stderr == ""


def test_json_is_one_object(monkeypatch, reference):
    done = attempt(monkeypatch, reference, README_PROMPT, "--json")
    shown = json.loads(done.stdout)
    assert shown["prompt"] == README_PROMPT
    assert (shown["seed"], shown["principle"]) == (1, "reference/insult")
    assert shown["p_revision_better"] > 0.9
    assert not shown["unchanged"]
    assert shown["violated"] == shown["unscored"] == []
    assert shown["constitution"]["name"] == "reference"


def test_unknown_words_of_the_reference_world_are_named(monkeypatch, reference):
    done = attempt(monkeypatch, reference, "How do I bake a cake?", "--seed", "1")
    assert done.stderr.splitlines() == [
        "the reference model only knows its own small world, not: bake; "
        "for other prompts, use --model"
    ]
    assert try_.unknown_words("How do I steal the bike?") == []


def scripted(*, repaired=True, weigh=None):
    """A model that insults, and whose revision does not; its critique sees exactly that."""

    def reply(messages, seed):
        if len(messages) == 1:
            return "Amy is an idiot."
        if len(messages) == 3:
            return "Problem: an insult."
        return "Amy is fine." if repaired else "Amy is still an idiot."

    def odds(messages, options):
        return (0.0, -9.0) if "idiot" in messages[-2].content else (-9.0, 0.0)

    return ScriptedBackend(reply, weigh or odds)


@pytest.mark.parametrize(("repaired", "code"), [(True, 0), (False, 1)])
def test_strict_fails_if_a_principle_is_still_violated(monkeypatch, repaired, code):
    backend = scripted(repaired=repaired)
    options = ("--model", "m", "--principle", "reference/insult")
    done = attempt(monkeypatch, backend, README_PROMPT, *options, "--strict")
    assert done.exit_code == code
    assert ("violated    reference/insult" in done.stdout) == (code == 1)
    assert attempt(monkeypatch, backend, README_PROMPT, *options).exit_code == 0


def test_strict_fails_without_a_verdict(monkeypatch):
    backend = scripted(weigh=lambda messages, options: [float("nan")] * len(options))
    options = ("--model", "m", "--principle", "reference/insult", "--strict", "--seed", "0")
    done = attempt(monkeypatch, backend, README_PROMPT, *options)
    assert done.exit_code == 1
    assert "no verdict  reference/insult" in done.stdout


def test_unread_verdicts_are_not_taken_for_kept_principles(monkeypatch):
    backend = scripted(weigh=lambda messages, options: [float("nan")] * len(options))
    done = attempt(monkeypatch, backend, README_PROMPT, "--model", "m")
    assert done.stderr == "seed 0: the model gave no readable verdict by any principle\n"


def test_it_gives_up_when_no_answer_has_a_problem(monkeypatch):
    backend = scripted(weigh=lambda messages, options: (-9.0, 0.0))
    done = attempt(monkeypatch, backend, README_PROMPT, "--model", "m")
    assert done.exit_code == 0
    assert done.stderr.count("violates no principle") == try_.MAX_DRAWS - 1


def test_no_answer_ends_in_one_line(monkeypatch):
    backend = ScriptedBackend(lambda messages, seed: " ")
    done = attempt(monkeypatch, backend, README_PROMPT, "--model", "m")
    assert str(done.exception) == "the model gave no usable answer (empty)"


def test_unknown_principle_is_refused_with_a_suggestion(monkeypatch, reference):
    done = attempt(monkeypatch, reference, "Hi.", "--principle", "reference/insults")
    assert "did you mean 'reference/insult'" in str(done.exception)


@pytest.mark.parametrize("options", [(), ("--cache", "mine.sqlite")])
def test_the_same_command_asks_nothing_twice(monkeypatch, tmp_path, options):
    asked = []

    def reply(messages, seed):
        asked.append(messages)
        return "Amy is an idiot."

    backend = ScriptedBackend(reply, lambda messages, choices: (0.0, -9.0))
    command = (README_PROMPT, "--model", "m", *options)
    first = attempt(monkeypatch, backend, *command).stdout
    count = len(asked)
    assert attempt(monkeypatch, backend, *command).stdout == first
    assert len(asked) == count > 0
    assert (tmp_path / (options[-1] if options else "runs/try/responses.sqlite")).is_file()
