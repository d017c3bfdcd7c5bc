"""The cache: no request is sent twice, no response is lost, and the key holds all that matters."""

import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest
from request_helpers import conversation

from cai.backends import openai_protocol
from cai.backends.budget import Budget, Usage
from cai.backends.cache_format import cache_key
from cai.backends.protocol import Completion, GenerateRequest, LoglikelihoodRequest
from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.errors import InputError, LimitReached
from cai.records import Message


def backend(log=None, name="m"):
    def reply(messages, seed):
        if log is not None:
            log.append(messages[-1].content)
        return f"{messages[-1].content} {seed}"

    return ScriptedBackend(reply, lambda messages, options: range(len(options)), name)


def test_equal_requests_are_sent_once(tmp_path):
    log = []
    requests = [GenerateRequest(conversation(t), seed=1) for t in ("a", "b", "a", "c")]
    expected = ["a 1", "b 1", "a 1", "c 1"]
    with ResponseCache(tmp_path / "m.sqlite") as cache:
        assert [r.text for r in cache.cached_model(backend(log), "s")(requests)] == expected
        assert log == ["a", "b", "c"]
        assert (cache.usage["s"].requests, cache.usage["s"].cached) == (3, 1)
    with ResponseCache(tmp_path / "m.sqlite") as cache:
        assert [r.text for r in cache.cached_model(backend(log), "s")(requests)] == expected
        assert log == ["a", "b", "c"]
        assert (cache.usage["s"].requests, cache.usage["s"].cached) == (0, 4)
        assert cache.totals()["s"].requests == 3


def test_progress_counts_up_to_all_requests(tmp_path):
    reports = []
    requests = [GenerateRequest(conversation(str(i)), seed=1) for i in range(200)]
    with ResponseCache(tmp_path / "m.sqlite") as cache:
        model = cache.cached_model(
            backend(), "s", lambda done, total: reports.append((done, total))
        )
        model(requests[:50])
        model(requests)
    assert (50, 50) in reports
    assert reports[-1] == (200, 200)
    assert all(done <= total for done, total in reports)


@pytest.mark.parametrize("change", [{"seed": 2}, {"temperature": 0.5}, {"max_tokens": 7}])
def test_key_holds_every_sampling_value(change):
    values = {"seed": 1, "temperature": 1.0, "max_tokens": 5}
    request = GenerateRequest(conversation("a"), **values)
    changed = GenerateRequest(conversation("a"), **(values | change))
    key = cache_key("m", "text", request)
    assert key != cache_key("m", "text", changed)
    assert key != cache_key("n", "text", request)
    assert key != cache_key("m", "texts", request)


def test_key_of_a_greedy_request_ignores_the_seed():
    first, second = (GenerateRequest(conversation("a"), seed, 0.0) for seed in (1, 2))
    assert cache_key("m", "t", first) == cache_key("m", "t", second)


def test_key_holds_the_options():
    keys = {
        cache_key("m", "t", LoglikelihoodRequest(conversation("a"), options))
        for options in (("x", "y"), ("y", "x"), ("x", "y", "z"))
    }
    assert len(keys) == 3


def test_whole_options_have_a_key_and_lengths_of_their_own(tmp_path):
    first = LoglikelihoodRequest(conversation("x"), ("No way", "Yes"))
    whole = LoglikelihoodRequest(conversation("x"), ("No way", "Yes"), whole=True)
    assert cache_key("f", "r", first) != cache_key("f", "r", whole)
    backend = ScriptedBackend(score_options=lambda messages, options: (-1.0, -2.0))
    with ResponseCache(tmp_path / "cache") as cache:
        (written,) = cache.cached_model(backend)([whole])
    with ResponseCache(tmp_path / "cache") as cache:
        (read,) = cache.cached_model(backend)([whole])
    assert read == written and read.option_tokens == (2, 1)


def test_responses_are_the_same_from_the_cache(tmp_path):
    requests = [
        LoglikelihoodRequest(conversation("a"), ("x", "y")),
        GenerateRequest(conversation("a"), 1),
    ]
    read = []
    for _ in range(2):
        with ResponseCache(tmp_path / "m.sqlite") as cache:
            read.append(cache.cached_model(backend(), "s")(requests))
    assert read[0] == read[1]
    assert read[0][0].logprobs == (0.0, 1.0)


def write_database(path, version, table):
    database = sqlite3.connect(path)
    database.execute(f"CREATE TABLE {table} (key TEXT)")
    database.execute(f"PRAGMA user_version={version}")
    database.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("version", "table", "age"),
    [(0, "anything", "an older"), (1, "calls", "an older"), (99, "responses", "a newer")],
)
def test_caches_of_other_versions_are_refused_and_kept(tmp_path, version, table, age):
    path = tmp_path / "responses.sqlite"
    content = write_database(path, version, table)
    with pytest.raises(InputError) as caught:
        ResponseCache(path)
    assert str(caught.value) == (
        f"{path}: was written by {age} version of cai (format {version}, not 4); "
        "move it away to start over"
    )
    assert path.read_bytes() == content


def test_file_that_is_no_database_is_refused_and_kept(tmp_path):
    path = tmp_path / "junk.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match=r"is not a response cache .*; move it away"):
        ResponseCache(path)
    assert path.read_bytes() == b"not a database" * 100


def test_full_disk_stops_and_keeps_the_responses(tmp_path):
    with ResponseCache(tmp_path / "m.sqlite") as cache:
        cache.cached_model(backend(), "s")([GenerateRequest(conversation("first"), 1)])
        cache._db.execute("PRAGMA max_page_count=4")
        long = [GenerateRequest(conversation(f"{i} " + "x" * 3000), 1) for i in range(200)]
        with pytest.raises(LimitReached, match="free some space and run again"):
            cache.cached_model(backend(), "s")(long)
    log = []
    with ResponseCache(tmp_path / "m.sqlite") as cache:
        cache.cached_model(backend(log), "s")([GenerateRequest(conversation("first"), 1)])
    assert log == []


class Failing(ScriptedBackend):
    def respond(self, requests):
        yield from ((i, Completion("", "failed", 3, 4, "oops")) for i in range(len(requests)))


def test_failed_responses_are_paid_for_and_asked_again(tmp_path):
    request = GenerateRequest(conversation("a"), 1)
    with ResponseCache(tmp_path / "m.sqlite") as cache:
        (response,) = cache.cached_model(Failing(name="m"), "s")([request])
        assert response.reason == "oops"
        assert cache.failures == {"s": {"oops": 1}}
    log = []
    with ResponseCache(tmp_path / "m.sqlite", Budget(requests=2)) as cache:
        assert cache.totals() == {"s": Usage(1, 0, 3, 4)}
        cache.cached_model(backend(log), "s")([request])
        assert log == ["a"]
        with pytest.raises(LimitReached, match="requests 2 of 2"):
            cache.cached_model(backend(log), "s")([GenerateRequest(conversation("b"), 1)])


def test_conversations_that_render_alike_have_keys_of_their_own():
    one = (Message(role="user", content="Hi\n<assistant>\nHo\n<user>\nBye"),)
    three = tuple(
        Message(role=role, content=text)
        for role, text in (("user", "Hi"), ("assistant", "Ho"), ("user", "Bye"))
    )
    rendered = {openai_protocol.render(GenerateRequest(turns, 1), "chat") for turns in (one, three)}
    assert len(rendered) == 1
    keys = {cache_key("m", "text", GenerateRequest(turns, 1)) for turns in (one, three)}
    assert len(keys) == 2


@pytest.mark.parametrize("damage", ["replace(response, 'a 1', 'a 2')", "'{'", "'[]'"])
def test_damaged_answer_is_asked_for_again(tmp_path, damage):
    path, log = tmp_path / "m.sqlite", []
    requests = [GenerateRequest(conversation(text), 1) for text in "ab"]
    with ResponseCache(path) as cache:
        expected = cache.cached_model(backend(), "s")(requests)
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE responses SET response = {damage} WHERE response LIKE '%a 1%'")
    database.close()
    for _ in range(2):
        with ResponseCache(path) as cache:
            assert cache.cached_model(backend(log), "s")(requests) == expected
        assert log == ["a"]


def test_damaged_page_is_one_line(tmp_path):
    path = tmp_path / "m.sqlite"
    requests = [GenerateRequest(conversation(f"{i} " + "x" * 500), 1) for i in range(100)]
    with ResponseCache(path) as cache:
        cache.cached_model(backend(), "s")(requests)
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 12] = b"\xff" * (4096 * 9)
    path.write_bytes(content)
    message = r"is damaged \(.*\); move it away to start over"
    with pytest.raises(InputError, match=message), ResponseCache(path) as cache:
        cache.cached_model(backend(), "s")(requests)


def test_backend_that_leaves_requests_out_is_named(tmp_path):
    class Lazy(ScriptedBackend):
        def respond(self, requests):
            yield 0, Completion("a", "stop", 1, 1)

    requests = [GenerateRequest(conversation(text), 1) for text in "abc"]
    with (
        ResponseCache(tmp_path / "m.sqlite") as cache,
        pytest.raises(InputError, match=r"backend lazy: respond\(\) yielded 1 of 3 responses"),
    ):
        cache.cached_model(Lazy(name="lazy"))(requests)


CHILD = """
    import os, signal, sys
    from pathlib import Path
    from cai.backends.response_cache import ResponseCache
    from cai.backends.protocol import GenerateRequest
    from cai.backends.scripted import ScriptedBackend
    from cai.records import Message

    replies = open(sys.argv[2], "a", buffering=1)
    left = int(sys.argv[3])

    def reply(messages, seed):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replies.write(messages[-1].content + "\\n")
        return messages[-1].content.upper()

    requests = [
        GenerateRequest((Message(role="user", content=f"request {i}"),), 1) for i in range(1000)
    ]
    with ResponseCache(Path(sys.argv[1])) as cache:
        responses = cache.cached_model(ScriptedBackend(reply), "s")(requests)
    assert [r.text for r in responses] == [f"REQUEST {i}" for i in range(1000)]
"""


def test_killed_run_loses_at_most_the_last_group(tmp_path):
    log = tmp_path / "replies.txt"
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path / "m.sqlite"), str(log)]
    kills = (70, 300, 5, 130)
    for kill_after in kills:
        done = subprocess.run([*command, str(kill_after)], check=False)
        assert done.returncode == -signal.SIGKILL
    assert subprocess.run([*command, "-1"], check=False).returncode == 0
    replies = log.read_text().splitlines()
    assert len(set(replies)) == 1000
    assert len(replies) <= 1000 + len(kills) * 64
