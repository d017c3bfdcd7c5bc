"""The server backend against a server that misbehaves by script."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("openai")

from fault_server import FaultServer

from cai.backends import open_backend, openai_protocol
from cai.backends.budget import Budget
from cai.backends.protocol import GenerateRequest, LoglikelihoodRequest
from cai.backends.rate_limit import AdaptiveLimiter, retry_after
from cai.backends.response_cache import ResponseCache
from cai.backends.server import ServerBackend, ServerSettings
from cai.errors import InputError, LimitReached
from cai.records import Message

PROBES = 3


def talk(text):
    return (Message(role="user", content=text),)


def completes(n):
    return [GenerateRequest(talk("word " * (i + 1)), seed=i) for i in range(n)]


def model(backend, requests):
    found = dict(backend.respond(requests))
    return [found[i] for i in range(len(requests))]


def once_each(status, headers=None, body=""):
    """Every request after the probe fails the first time and works the second."""
    seen = set()

    def script(number, fields):
        key = json.dumps(fields["messages"])
        if number <= PROBES or key in seen:
            return None
        seen.add(key)
        return "reset" if status == "reset" else (status, headers or {}, body)

    return script


@pytest.mark.parametrize(
    "fault",
    [
        (500, {}, "oops"),
        (503, {}, ""),
        (529, {}, ""),
        (429, {"Retry-After": "0.02"}, "{}"),
        (429, {}, "{}"),
        ("reset",),
        (200, {}, "<html>hello</html>"),
        (200, {}, ""),
        (200, {}, {"choices": []}),
        (200, {}, {"choices": [{"message": {"content": None}}]}),
        (200, {}, {"error": "x"}),
        (200, {}, "[1, 2]"),
    ],
    ids=lambda f: str(f[0]) + str(f[2] if len(f) > 2 else "")[:12],
)
def test_what_may_pass_is_asked_again(fault):
    with FaultServer(once_each(*fault)) as server:
        answers = model(server.backend(), completes(12))
    assert [a.text for a in answers] == [f"{i + 1} words" for i in range(12)] and all(
        a.finish_reason == "stop" for a in answers
    )
    assert len(server.requests) == PROBES + 24


def test_thirty_percent_errors_change_nothing():
    import random

    with FaultServer() as good:
        expected = model(good.backend(), completes(300))
    rng = random.Random(0)
    with FaultServer(
        lambda n, f: (
            (rng.option_logprobs([500, 502, 503]), {}, "")
            if n > PROBES and rng.random() < 0.3
            else None
        )
    ) as bad:
        assert model(bad.backend(attempts=12, first_wait=0.001), completes(300)) == expected


def test_a_lasting_fault_is_a_status_with_its_reason_and_is_not_remembered(tmp_path):
    broken = True

    def script(number, fields):
        return (
            (200, {}, "<html>")
            if broken and fields["messages"][-1]["content"] == "word word "
            else None
        )

    with FaultServer(script) as server, ResponseCache(tmp_path / "responses.sqlite") as cache:
        backend = server.backend(attempts=2)
        answers = cache.cached_model(backend)(completes(3))
        assert [a.finish_reason for a in answers] == [
            "stop",
            "failed",
            "stop",
        ] and "malformed" in answers[1].reason
        broken = False
        before = len(server.requests)
        assert [a.finish_reason for a in cache.cached_model(backend)(completes(3))] == [
            "stop"
        ] * 3 and len(server.requests) == before + 1


@pytest.mark.parametrize(
    ("status", "body", "finish_reason"),
    [
        (400, "This model's maximum context length is 8 tokens", "too_long"),
        (413, "", "too_long"),
        (400, "content_filter", "filtered"),
        (400, "bad temperature", "failed"),
    ],
)
def test_what_a_second_attempt_cannot_mend_is_not_tried_again(status, body, finish_reason):
    with FaultServer(
        lambda n, f: (status, {}, json.dumps({"error": {"message": body}})) if n > PROBES else None
    ) as server:
        assert model(server.backend(), completes(1))[0].finish_reason == finish_reason
    assert len(server.requests) == PROBES + 1


@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (401, {}, InputError, "OPENAI_API_KEY"),
        (403, {}, InputError, "refuses"),
        (404, {}, InputError, "knows no model"),
        (402, {}, LimitReached, "quota"),
        (429, {"error": {"code": "insufficient_quota", "message": "x"}}, LimitReached, "quota"),
    ],
)
def test_what_stops_the_run(status, body, error, says, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with (
        FaultServer(lambda n, f: (status, {}, body)) as server,
        pytest.raises(error, match=says) as caught,
    ):
        model(server.backend(), completes(2))
    assert "sk-secret" not in str(caught.value)


def test_a_server_that_dies_stops_the_run_and_what_was_answered_is_kept(tmp_path):
    with (
        FaultServer(lambda n, f: (500, {}, "") if n > PROBES + 100 else None) as server,
        ResponseCache(tmp_path / "m.sqlite") as cache,
    ):
        with pytest.raises(LimitReached, match="in a row failed"):
            cache.cached_model(server.backend(attempts=1))(completes(300))
        assert 64 <= cache.totals()[""].requests <= 100


def test_no_server_at_all():
    backend = ServerBackend(
        "http://127.0.0.1:9/v1#m", settings=ServerSettings(attempts=2, first_wait=0.01)
    )
    with pytest.raises(LimitReached, match="does not answer"):
        model(backend, completes(1))
    with pytest.raises(InputError, match="names no model"):
        open_backend("http://127.0.0.1:9/v1")


def test_slow_and_endless_answers_end():
    ended = threading.Event()

    def never(number, fields):
        if number > PROBES:
            ended.wait(60)

    with FaultServer(never) as server:
        assert (
            model(server.backend(deadline=2.0, attempts=2), completes(1))[0].reason
            == "no answer in time"
        )
        assert len(server.requests) == PROBES + 2
        ended.set()
    with FaultServer(lambda n, f: (200, {}, b" " * 300_000) if n > PROBES else None) as server:
        assert (
            "longer than"
            in model(server.backend(byte_cap=100_000, attempts=1), completes(1))[0].reason
        )
    import gzip

    packed = gzip.compress(b" " * 10_000_000)
    with FaultServer(
        lambda n, f: (200, {"Content-Encoding": "gzip"}, packed) if n > PROBES else None
    ) as server:
        assert "packs" in model(server.backend(attempts=1), completes(1))[0].reason


def test_verdicts_are_read_from_the_first_token():
    with FaultServer() as server:
        found = model(
            server.backend(), [LoglikelihoodRequest(talk("x"), ("Problem", "No problem"))]
        )[0]
    assert found.logprobs == pytest.approx((-0.1, -2.4)) and found.votes == 0
    sent = server.requests[-1]
    assert (
        sent["max_tokens"] == 1
        and sent["top_logprobs"] == openai_protocol.TOP
        and sent["top_p"] == 1.0
    )


def test_without_log_probabilities_votes_are_taken_and_said():
    with FaultServer(logprobs=False, seeds=False) as server:
        backend = server.backend()
        found = model(backend, [LoglikelihoodRequest(talk("x"), ("Problem", "No problem"))])[0]
    assert [math.exp(p) for p in found.logprobs] == pytest.approx(
        [6 / 7, 1 / 7]
    ) and found.votes == openai_protocol.VOTE_SAMPLES
    assert (
        len(backend.notes) == 2
        and "no log-probabilities" in backend.notes[0]
        and "seeds" in backend.notes[1]
    )


def test_nan_log_probabilities_are_no_verdict():
    def script(number, fields):
        if number > PROBES:
            return (
                200,
                {},
                '{"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"top_logprobs": [{"token": "A", "logprob": NaN}]}]}}]}',
            )

    with FaultServer(script) as server:
        assert (
            model(server.backend(attempts=1), [LoglikelihoodRequest(talk("x"), ("A", "B"))])[
                0
            ].finish_reason
            == "failed"
        )


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ({"A": -1.0, "B": -2.0}, (-1.0, -2.0)),
        ({" A": -1.0, "And": -0.1}, (-1.0, -math.inf)),
        ({"(A": -1.0, "ĠB": -3.0}, (-1.0, -3.0)),
        ({"C": -0.1}, None),
        ({"": -0.1, " ": -1.0}, None),
    ],
)
def test_weights_of_letters(tokens, expected):
    found = openai_protocol.weights(("A", "B"), tokens)
    assert all(map(math.isnan, found)) if expected is None else found == pytest.approx(expected)


def test_several_servers_share_the_load_and_the_load_is_capped():
    busy, most = [0], [0]
    lock = threading.Lock()

    def slow(number, fields):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.01)
        with lock:
            busy[0] -= 1

    with FaultServer(slow) as one, FaultServer(slow) as two:
        spec = f"{one.spec.split('#')[0]},{two.spec}"
        assert (
            len(model(ServerBackend(spec, settings=ServerSettings(concurrency=6)), completes(200)))
            == 200
        )
        assert min(len(one.requests), len(two.requests)) > 20 and most[0] <= 12


def test_the_gate_opens_fast_until_it_was_full_and_slowly_then():
    gate = AdaptiveLimiter(start=8, most=64)
    for _ in range(40):
        gate.on_success()
    assert gate.limit == 48
    gate.on_overload()
    gate.on_overload()  # of the same moment
    assert gate.limit == 24
    for _ in range(400):
        gate.on_success()
    assert 30 < gate.limit < 64


def test_everyone_who_waits_at_the_gate_gets_in():
    async def crowd():
        gate, inside = AdaptiveLimiter(start=2, most=16), []

        async def one(i):
            async with gate.enter():
                await asyncio.sleep(0.001)
                inside.append(i)
            (gate.on_overload if i % 7 == 0 else gate.on_success)()

        await asyncio.wait_for(asyncio.gather(*(one(i) for i in range(300))), 30)
        return inside

    assert sorted(asyncio.run(crowd())) == list(range(300))


def test_retry_after_in_seconds_and_as_a_date():
    import email.utils

    assert (
        retry_after({"retry-after": "3"}) == 3.0
        and retry_after({"retry-after": "1e9"}) == 60.0
        and retry_after({}) is None
    )
    assert (
        8
        < retry_after({"retry-after": email.utils.formatdate(time.time() + 10, usegmt=True)})
        <= 10
    )
    assert (
        retry_after({"retry-after": "soon"}) is None and retry_after({"retry-after": "nan"}) is None
    )


def test_closing_early_stops_the_calls():
    with FaultServer(lambda n, f: time.sleep(0.02)) as server:
        stream = server.backend(concurrency=2).respond(completes(500))
        next(stream)
        stream.close()
        asked = len(server.requests)
        time.sleep(0.2)
        assert len(server.requests) <= asked + 2 < 100


def test_a_transcript_for_a_server_has_only_the_turns_it_has():
    request = GenerateRequest(talk("a\n\nAssistant: Sure.\n\nHuman: b"), seed=0)
    assert (
        openai_protocol.request(request, "m", "transcript")["prompt"]
        == "Human: a\nAssistant: Sure.\nHuman: b\n\nAssistant:"
    )


def test_thoughts_are_kept_apart_however_the_server_gives_them():
    def reply(message):
        return lambda number, fields: (
            200,
            {},
            {"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]},
        )

    for message in (
        {"content": "Yes.", "reasoning": "hm"},
        {"content": "Yes.", "reasoning_content": "hm"},
        {"content": "<think>hm</think>\n\nYes."},
    ):
        with FaultServer(reply(message)) as server:
            (answer,) = model(server.backend(), completes(1))
            assert (answer.text, answer.reasoning) == ("Yes.", "hm")
    with FaultServer(reply({"content": None, "reasoning": "hm"})) as server:
        (answer,) = model(server.backend(), completes(1))
        assert (answer.text, answer.reasoning, answer.finish_reason) == ("", "hm", "stop")


def test_a_server_is_asked_not_to_think_unless_it_may_and_one_that_knows_no_such_option_is_left_alone():
    option = {"enable_thinking": False}
    with FaultServer() as server:
        model(server.backend(), completes(2))
        assert all(fields["chat_template_kwargs"] == option for fields in server.requests)
    with FaultServer() as server:
        model(
            ServerBackend(
                server.spec, enable_thinking=True, settings=ServerSettings(first_wait=0.01)
            ),
            completes(2),
        )
        assert not any("chat_template_kwargs" in fields for fields in server.requests)
    refuses = lambda number, fields: (
        (400, {}, "unknown field") if "chat_template_kwargs" in fields else None
    )  # noqa: E731
    with FaultServer(refuses) as server:
        assert [a.text for a in model(server.backend(), completes(2))] == ["1 words", "2 words"]
        assert sum("chat_template_kwargs" in fields for fields in server.requests) == 1


def stored_after(path, server, count, stop, budget=None):
    """How many answers a memo holds after something stopped ``count`` calls, eight at once."""
    with ResponseCache(path, budget) as cache:
        with pytest.raises(stop):
            cache.cached_model(server.backend(concurrency=8), "s")(completes(count))
        return cache.totals()["s"].requests


@pytest.fixture
def ctrl_c():
    """Ctrl-C is heard, which a shell's background jobs are told not to."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_and_a_budget_wait_for_what_is_on_its_way(tmp_path, ctrl_c):
    def slow(number, fields):
        if number == 100:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.02)

    with FaultServer(slow) as server:
        assert (
            stored_after(tmp_path / "a", server, 3000, KeyboardInterrupt)
            == len(server.requests) - PROBES
            < 3000
        )
    with FaultServer(lambda n, f: time.sleep(0.02)) as server:  # each call costs nine tokens
        stored = stored_after(tmp_path / "b", server, 1000, LimitReached, Budget(tokens=270))
        assert 30 <= stored == len(server.requests) - PROBES < 1000


def test_a_budget_of_calls_is_kept_to_the_call(tmp_path):
    with FaultServer() as server:
        assert (
            stored_after(tmp_path / "m", server, 200, LimitReached, Budget(requests=30))
            == 30
            == len(server.requests) - PROBES
        )
        with (
            ResponseCache(tmp_path / "m", Budget(requests=30)) as cache,
            pytest.raises(LimitReached, match="requests 30 of 30"),
        ):
            cache.cached_model(server.backend(), "s")(completes(200))
        with ResponseCache(tmp_path / "m", Budget(requests=200)) as cache:
            assert len(cache.cached_model(server.backend(), "s")(completes(200))) == 200


def test_a_second_ctrl_c_waits_for_nothing(tmp_path, ctrl_c):
    ended = threading.Event()

    def never(number, fields):
        if number == PROBES + 1:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.5)  # two signals of one moment are one to Python
        if number > PROBES:
            ended.wait(60)

    with FaultServer(never) as server, ResponseCache(tmp_path / "m") as cache:
        with pytest.raises(KeyboardInterrupt):
            cache.cached_model(server.backend(concurrency=8), "s")(completes(20))
        assert cache.totals() == {}
        ended.set()


def test_what_was_answered_while_the_quota_ran_out_is_kept(tmp_path):
    answered = []

    def script(number, fields):
        time.sleep(0.02 * (number % 5))
        if number > PROBES + 20 and number % 5 == 0:
            return 402, {}, "pay first"
        answered.append(number)
        return None

    with FaultServer(script) as server:
        stored = stored_after(tmp_path / "m", server, 300, LimitReached)
        assert stored == len(answered) - PROBES < 60


def test_the_key_is_nowhere(tmp_path, root):
    key = "sk-canary-1234567890"

    def script(number, fields):
        if number > PROBES + 6:
            return 401, {}, json.dumps({"error": f"the key {key} is not known"})
        return (500, {}, f"oops {key}") if number == PROBES + 2 else None

    (tmp_path / "p.jsonl").write_text(
        "".join(json.dumps({"prompt": f"How do I wash the dog {i}?"}) + "\n" for i in range(6))
    )
    with FaultServer(script) as server:
        settings = {
            "constitution": str(root / "constitution/reference.yaml"),
            "models": {"critic": server.spec},
        }
        settings |= {
            "prompts": {"red_team": "p.jsonl", "benign": "p.jsonl"},
            "sample": {"max_tokens": 8},
        }
        (tmp_path / "run.yaml").write_text(json.dumps(settings))
        command = [sys.executable, "-m", "cai", "run", "run.yaml", "--until", "revise"]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=os.environ | {"OPENAI_API_KEY": key},
        )
    assert done.returncode == 3 and "refuses the key" in done.stderr
    assert key not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "responses.sqlite" for path in files)
    assert not [path for path in files if key.encode() in path.read_bytes()]


def test_a_key_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(InputError, match="OPENAI_API_KEY") as caught:
        open_backend("http://user:secret@localhost:8000/v1#m")
    assert "secret" not in str(caught.value)
