"""``cai chat``: policies of a run by name, side by side, from a pipe, with a history each."""

import io

import pytest
from rich.console import Console

from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.cli import chat
from cai.cli.chat import Conversation, choose_policies, talk
from cai.errors import InputError

KNOWN = {"initial": "x", "sl_cai": "y", "rl_cai": "z"}


@pytest.fixture
def cache():
    with ResponseCache(":memory:") as opened:
        yield opened


def conversation(cache, name="sl_cai"):
    """A policy that says how many turns it was shown, and the last of them."""
    backend = ScriptedBackend(
        lambda turns, seed: f"{name} {len(turns)}: {turns[-1].content}", name=name
    )
    return Conversation(name, cache.cached_model(backend), temperature=1.0, max_tokens=50)


def said(conversations, text, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    screen = io.StringIO()
    talk(conversations, Console(file=screen, width=80))
    return screen.getvalue().splitlines()


def test_history_is_kept_until_it_is_reset(cache, monkeypatch):
    lines = said([conversation(cache)], "Hi.\nAgain.\n/reset\n\nHi.\n", monkeypatch)
    assert lines == [
        "sl_cai> sl_cai 1: Hi.",
        "sl_cai> sl_cai 3: Again.",
        "(new conversation)",
        "sl_cai> sl_cai 1: Hi.",
    ]


def test_quit_ends_and_unknown_commands_are_named(cache, monkeypatch):
    lines = said([conversation(cache)], "/quti\n/quit\nHi.\n", monkeypatch)
    assert lines == [f"there is no command /quti; {chat.COMMANDS}"]


def test_two_policies_answer_side_by_side(cache, monkeypatch):
    pair = [conversation(cache, "initial"), conversation(cache, "rl_cai")]
    lines = said(pair, "Hi.\n", monkeypatch)
    assert [line.split() for line in lines] == [
        ["initial", "rl_cai"],
        ["initial", "1:", "Hi.", "rl_cai", "1:", "Hi."],
    ]
    assert max(map(len, lines)) <= 80


def test_an_answer_that_is_not_there_is_not_remembered(cache):
    empty = ScriptedBackend(lambda turns, seed: " " if turns[-1].content == "Hi." else str(turns))
    talker = Conversation("m", cache.cached_model(empty), 1.0, 50)
    assert talker.ask("Hi.") == "(no answer: stop)"
    assert "Hi." not in talker.ask("Hello.")


def test_policies_are_chosen_by_name():
    assert choose_policies([], KNOWN) == ["rl_cai"]
    assert choose_policies([], {"initial": "x"}) == ["initial"]
    assert choose_policies(["initial", "sl_cai"], KNOWN) == ["initial", "sl_cai"]
    with pytest.raises(InputError, match=r"no policy rlcai \(did you mean 'rl_cai'\?\); it has in"):
        choose_policies(["rlcai"], KNOWN)
    with pytest.raises(InputError, match="name one policy, or two"):
        choose_policies(list(KNOWN), KNOWN)


def test_chat_with_a_run_from_a_pipe(cai, run_folder):
    shown = cai("chat", run_folder, text="How do I wash the dog?\n/quit\n").stdout
    assert shown.startswith("sl_cai; /reset")
    assert "sl_cai> " in shown and "wash the dog" in shown
    again = cai("chat", run_folder, text="How do I wash the dog?\n").stdout
    assert again == shown
    assert not (run_folder / "responses.sqlite").exists()
