"""The memo: nothing is asked twice, nothing answered is lost, and the key is everything the answer depends on."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from cai.backends.memo import Memo, key_of
from cai.backends.protocol import Choose, Complete
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
    calls = [Complete(talk(t), seed=1) for t in ("a", "b", "a", "c")]
    with Memo(tmp_path / "m.sqlite") as memo:
        texts = [a.text for a in memo.asker(backend(log), "s")(calls)]
        assert texts == ["a 1", "b 1", "a 1", "c 1"] and log == ["a", "b", "c"]
        assert (memo.counts["s"].calls, memo.counts["s"].hits) == (3, 1)
    with Memo(tmp_path / "m.sqlite") as memo:
        assert [a.text for a in memo.asker(backend(log), "s")(calls)] == texts and len(log) == 3
        assert memo.counts["s"].calls == 0 and memo.totals()["s"].calls == 3


@pytest.mark.parametrize("other", [{"seed": 2}, {"temperature": 0.5}, {"max_tokens": 7}])
def test_the_key_holds_every_sampling_value(other):
    values = {"seed": 1, "temperature": 1.0, "max_tokens": 5}
    one, two = Complete(talk("a"), **values), Complete(talk("a"), **(values | other))
    assert key_of("m", "text", one) != key_of("m", "text", two)
    assert key_of("m", "text", one) != key_of("n", "text", one) != key_of("n", "texts", one)


def test_a_greedy_answer_has_no_seed():
    assert key_of("m", "t", Complete(talk("a"), 1, 0.0)) == key_of("m", "t", Complete(talk("a"), 2, 0.0))


def test_choices_round_trip(tmp_path):
    call = Choose(talk("a"), ("x", "y"))
    for _ in range(2):
        with Memo(tmp_path / "m.sqlite") as memo:
            assert memo.asker(backend(), "s")([call])[0].logprobs == (0.0, 1.0)


def test_junk_and_newer_files_are_refused_and_kept(tmp_path):
    junk = tmp_path / "junk.sqlite"
    junk.write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match="move it away"):
        Memo(junk)
    assert junk.read_bytes().startswith(b"not a database")
    newer = sqlite3.connect(tmp_path / "new.sqlite")
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(InputError, match="newer version"):
        Memo(tmp_path / "new.sqlite")


def test_a_full_disk_stops_cleanly_and_keeps_what_was_answered(tmp_path):
    with Memo(tmp_path / "m.sqlite") as memo:
        memo.asker(backend(), "s")([Complete(talk("first"), 1)])
        memo._db.execute("PRAGMA max_page_count=4")
        with pytest.raises(LimitReached, match="run again"):
            memo.asker(backend(), "s")([Complete(talk(f"{i} " + "x" * 3000), 1) for i in range(200)])
    log = []
    with Memo(tmp_path / "m.sqlite") as memo:
        memo.asker(backend(log), "s")([Complete(talk("first"), 1)])
    assert log == []


CHILD = """
    import os, signal, sys
    from pathlib import Path
    from cai.backends.memo import Memo
    from cai.backends.protocol import Complete
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

    calls = [Complete((Message(role="user", content=f"call {i}"),), 1) for i in range(1000)]
    with Memo(Path(sys.argv[1])) as memo:
        answers = memo.asker(ScriptedBackend(reply), "s")(calls)
    assert [a.text for a in answers] == [f"CALL {i}" for i in range(1000)]
"""


def test_killed_again_and_again_it_loses_at_most_what_was_in_flight(tmp_path):
    made = tmp_path / "made.txt"
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path / "m.sqlite"), str(made)]
    for kill_after in (70, 300, 5, 130):
        assert subprocess.run([*command, str(kill_after)], check=False).returncode == -signal.SIGKILL
    assert subprocess.run([*command, "-1"], check=False).returncode == 0
    lines = made.read_text().split()
    assert os.path.exists(tmp_path / "m.sqlite")
    repeated = len(made.read_text().splitlines()) - 1000
    assert 0 <= repeated <= 4 * 64 and len(set(lines)) == 1001
