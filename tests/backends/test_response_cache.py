"""The memo: nothing is asked twice, nothing answered is lost, and the key is everything the answer depends on."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from cai.backends.protocol import GenerateRequest, LoglikelihoodRequest
from cai.backends.response_cache import ResponseCache, key_of
from cai.backends.scripted import ScriptedBackend
from cai.errors import InputError, LimitReached
from cai.records import Message


def talk(text):
    return (Message(role="user", content=text),)


def backend(log=None, name="m"):
    def reply(messages, seed):
        if log is not None:
            log.append(messages[-1].content)
        return f"{messages[-1].content} {seed}"

    return ScriptedBackend(reply, lambda messages, options: range(len(options)), name)


def test_equal_calls_are_made_once_and_answers_keep_their_order(tmp_path):
    log = []
    requests = [GenerateRequest(talk(t), seed=1) for t in ("a", "b", "a", "c")]
    with ResponseCache(tmp_path / "m.sqlite") as cache:
        texts = [a.text for a in cache.cached_model(backend(log), "s")(requests)]
        assert texts == ["a 1", "b 1", "a 1", "c 1"] and log == ["a", "b", "c"]
        assert (cache.usage["s"].requests, cache.usage["s"].cached) == (3, 1)
    with ResponseCache(tmp_path / "m.sqlite") as cache:
        assert [a.text for a in cache.cached_model(backend(log), "s")(requests)] == texts and len(
            log
        ) == 3
        assert cache.usage["s"].requests == 0 and cache.totals()["s"].requests == 3


@pytest.mark.parametrize("other", [{"seed": 2}, {"temperature": 0.5}, {"max_tokens": 7}])
def test_the_key_holds_every_sampling_value(other):
    values = {"seed": 1, "temperature": 1.0, "max_tokens": 5}
    one, two = GenerateRequest(talk("a"), **values), GenerateRequest(talk("a"), **(values | other))
    assert key_of("m", "text", one) != key_of("m", "text", two)
    assert key_of("m", "text", one) != key_of("n", "text", one) != key_of("n", "texts", one)


def test_a_greedy_answer_has_no_seed():
    assert key_of("m", "t", GenerateRequest(talk("a"), 1, 0.0)) == key_of(
        "m", "t", GenerateRequest(talk("a"), 2, 0.0)
    )


def test_choices_round_trip(tmp_path):
    request = LoglikelihoodRequest(talk("a"), ("x", "y"))
    for _ in range(2):
        with ResponseCache(tmp_path / "m.sqlite") as cache:
            assert cache.cached_model(backend(), "s")([request])[0].logprobs == (0.0, 1.0)


def test_junk_and_newer_files_are_refused_and_kept(tmp_path):
    junk = tmp_path / "junk.sqlite"
    junk.write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match="move it away"):
        ResponseCache(junk)
    assert junk.read_bytes().startswith(b"not a database")
    newer = sqlite3.connect(tmp_path / "new.sqlite")
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(InputError, match="newer version"):
        ResponseCache(tmp_path / "new.sqlite")


def test_a_full_disk_stops_cleanly_and_keeps_what_was_answered(tmp_path):
    with ResponseCache(tmp_path / "m.sqlite") as cache:
        cache.cached_model(backend(), "s")([GenerateRequest(talk("first"), 1)])
        cache._db.execute("PRAGMA max_page_count=4")
        with pytest.raises(LimitReached, match="run again"):
            cache.cached_model(backend(), "s")(
                [GenerateRequest(talk(f"{i} " + "x" * 3000), 1) for i in range(200)]
            )
    log = []
    with ResponseCache(tmp_path / "m.sqlite") as cache:
        cache.cached_model(backend(log), "s")([GenerateRequest(talk("first"), 1)])
    assert log == []


CHILD = """
    import os, signal, sys
    from pathlib import Path
    from cai.backends.response_cache import ResponseCache
    from cai.backends.protocol import GenerateRequest
    from cai.backends.scripted import ScriptedBackend
    from cai.records import Message

    made = open(sys.argv[2], "a", buffering=1)
    left = int(sys.argv[3])

    def reply(messages, seed):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        made.write(messages[-1].content + "\\n")
        return messages[-1].content.upper()

    requests = [GenerateRequest((Message(role="user", content=f"request {i}"),), 1) for i in range(1000)]
    with ResponseCache(Path(sys.argv[1])) as cache:
        answers = cache.cached_model(ScriptedBackend(reply), "s")(requests)
    assert [a.text for a in answers] == [f"REQUEST {i}" for i in range(1000)]
"""


def test_killed_again_and_again_it_loses_at_most_what_was_in_flight(tmp_path):
    made = tmp_path / "made.txt"
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path / "m.sqlite"), str(made)]
    for kill_after in (70, 300, 5, 130):
        assert (
            subprocess.run([*command, str(kill_after)], check=False).returncode == -signal.SIGKILL
        )
    assert subprocess.run([*command, "-1"], check=False).returncode == 0
    lines = made.read_text().split()
    assert os.path.exists(tmp_path / "m.sqlite")
    repeated = len(made.read_text().splitlines()) - 1000
    assert 0 <= repeated <= 4 * 64 and len(set(lines)) == 1001
