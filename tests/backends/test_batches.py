"""Requests that are sent as files through a server's batch API."""

import json

import pytest
from batch_server import BatchServer, ok, refused

from cai.backends import batch_api, batches
from cai.backends.batch_api import BatchApi, api_of
from cai.backends.batch_log import BatchLog, Submitted
from cai.backends.protocol import GenerateRequest, LoglikelihoodRequest
from cai.backends.response_cache import ResponseCache
from cai.backends.server import ServerBackend
from cai.config.servers import Server
from cai.errors import InputError, LimitReached
from cai.files import read_json
from cai.records import Message

TEXTS = ["one", "one two", "one two three", "one two three four"]


def ask(text):
    return GenerateRequest((Message(role="user", content=text),), seed=1, max_tokens=20)


REQUESTS = [ask(text) for text in TEXTS]
WORDS = [f"{i + 1} words" for i in range(4)]


def texts(responses):
    return [response.text for response in responses]


@pytest.fixture
def opened(tmp_path):
    """Opens the model of a server behind the cache of this test, as a new process would."""
    caches = []

    def open_model(server, said=None):
        backend = server.batch_backend()
        cache = ResponseCache(tmp_path / "responses.sqlite").__enter__()
        caches.append(cache)
        if said is not None:
            backend.say = said
        return cache.cached_model(backend, "judge")

    yield open_model
    for cache in caches:
        cache.__exit__(None, None, None)


def kept(folder):
    return sorted(folder.glob("responses.batches/*.json"))


def test_a_file_of_requests_gives_the_same_responses_in_any_order(opened, tmp_path):
    said = []
    with BatchServer(status=lambda batch, look: "completed" if look > 2 else "in_progress") as s:
        model = opened(s, said.append)
        assert texts(model(REQUESTS)) == WORDS
        assert len(s.orders) == 1 and s.purposes == ["batch"]
        order = s.orders[0]["order"]
        assert order["endpoint"] == "/v1/chat/completions" and order["completion_window"] == "24h"
        (lines,) = s.lines
        assert {row["method"] for row in lines} == {"POST"} and len(lines) == 4
        assert {row["url"] for row in lines} == {"/v1/chat/completions"}
        assert lines[0]["body"]["model"] == "m" and "extra_body" not in lines[0]["body"]
        assert all(len(row["custom_id"]) <= 64 for row in lines)
        usage = model.cache.usage["judge"]
        assert texts(opened(s)(REQUESTS)) == WORDS and len(s.orders) == 1
    with BatchServer() as plain:
        assert plain.backend().fingerprint == model.fingerprint.rpartition(":")[0]
    assert said[0].startswith("batch b0: 4 requests at ")
    assert said[1:] == ["waiting for batch b0: 1 of 4", "waiting for batch b0: 2 of 4"]
    assert kept(tmp_path) == [] and usage.requests >= 4


def test_after_ctrl_c_the_same_batch_is_picked_up(opened, tmp_path):
    is_over, said = [], []

    def interrupt(line):
        said.append(line)
        if line.startswith("waiting") and not is_over:
            is_over.append(True)
            raise KeyboardInterrupt

    def status(batch, look):
        return "completed" if is_over and look > 3 else "in_progress"

    with BatchServer(status=status) as s:
        with pytest.raises(KeyboardInterrupt):
            opened(s, interrupt)(REQUESTS)
        assert said[-1] == "batch b0 goes on; run the same command to pick it up"
        (record,) = kept(tmp_path)
        assert read_json(record)["batch"] == "b0" and len(read_json(record)["ids"]) == 4
        assert texts(opened(s, said.append)(REQUESTS)) == WORDS
        assert len(s.orders) == 1 and "picking up the batch b0" in said
    assert kept(tmp_path) == []


def test_a_run_killed_before_its_results_are_stored_pays_once(opened, tmp_path):
    with BatchServer() as s:
        for responses in (s.batch_backend(), s.batch_backend()):  # neither is stored
            responses.batch_log = BatchLog(tmp_path / "responses.batches")
            assert len(list(responses.respond(REQUESTS))) == 4
        assert texts(opened(s)(REQUESTS)) == WORDS
        assert len(s.orders) == 1
    assert kept(tmp_path) == []


def test_a_batch_whose_id_was_never_heard_of_is_found_by_its_file(opened, tmp_path):
    lost = []

    def refuse(method, path):
        if method == "POST" and path.endswith("/batches") and not lost:
            lost.append(path)
            return "lost"
        return None

    with BatchServer(refuse=refuse) as s:
        with pytest.raises(LimitReached, match="batches that were submitted go on"):
            opened(s)(REQUESTS)
        assert read_json(kept(tmp_path)[0])["batch"] == ""
        assert texts(opened(s)(REQUESTS)) == WORDS
        assert len(s.orders) == 1 and len(s.purposes) == 1


def test_a_file_without_a_batch_becomes_one(opened, tmp_path):
    busy = []

    def refuse(method, path):
        if method == "POST" and path.endswith("/batches") and not busy:
            return 402, {"error": {"message": "no credit", "code": "insufficient_quota"}}
        return None

    with BatchServer(refuse=refuse) as s:
        with pytest.raises(LimitReached, match="quota is used up"):
            opened(s)(REQUESTS)
        busy.append(True)
        assert texts(opened(s)(REQUESTS)) == WORDS
        assert len(s.orders) == len(s.purposes) == 1


def test_failed_lines_have_a_status_with_the_reason_or_are_asked_again(opened):
    policy = {"message": "flagged", "code": "content_filter"}

    def line(name, body, batch):
        text = body["messages"][-1]["content"]
        if text == TEXTS[0]:
            return refused(name, 400, policy)
        if text == TEXTS[1] and batch == 0:
            return refused(name, 500, {"message": "oops"})
        if text == TEXTS[2] and batch == 0:
            return {"custom_id": name, "response": None, "error": {"message": "lost"}}
        if text == TEXTS[3]:
            return refused(name, 400, {"message": "no poems today"})
        return None

    with BatchServer(line=line) as s:
        responses = opened(s)(REQUESTS)
        assert [r.finish_reason for r in responses] == ["filtered", "stop", "stop", "failed"]
        assert "flagged" in responses[0].reason and "no poems today" in responses[3].reason
        assert [len(lines) for lines in s.lines] == [4, 2]


def test_lines_that_always_fail_are_given_up(opened):
    with BatchServer(line=lambda name, body, batch: refused(name, 500, {"message": "oops"})) as s:
        responses = opened(s)(REQUESTS[:2])
        assert [r.finish_reason for r in responses] == ["failed"] * 2
        assert "oops" in responses[0].reason and len(s.orders) == batches.ROUNDS
        s.line = lambda name, body, batch: None
        assert texts(opened(s)(REQUESTS[:2])) == WORDS[:2], "the next run asks again"


@pytest.mark.parametrize("ending", ["expired", "cancelled", "failed"])
def test_what_an_ended_batch_left_out_is_asked_again(opened, ending):
    def line(name, body, batch):
        return "none" if batch == 0 and body["messages"][-1]["content"] in TEXTS[:3] else None

    status = lambda batch, look: "completed" if batch else ending  # noqa: E731
    with BatchServer(line=line, status=status) as s:
        assert texts(opened(s)(REQUESTS)) == WORDS
        assert [len(lines) for lines in s.lines] == [4, 3]


def test_a_batch_that_always_expires_says_so(opened):
    with BatchServer(line=lambda *_: "none", status=lambda *_: "expired") as s:
        (response,) = opened(s)(REQUESTS[:1])
        assert response.finish_reason == "failed"
        assert response.reason == "the batch b2 was expired"


def test_a_batch_that_is_refused_as_a_whole_is_one_line(opened, tmp_path):
    def wrap(job):
        return job | {"errors": {"data": [{"message": "the model takes no batches"}]}}

    with BatchServer(line=lambda *_: "none", status=lambda *_: "failed", wrap=wrap) as s:
        s.look = lambda number: wrap({"id": "b0", "status": "failed"})
        with pytest.raises(InputError, match="the batch b0 failed: the model takes no batches"):
            opened(s)(REQUESTS)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_batches_is_one_line(opened, status):
    with BatchServer(refuse=lambda *_: (status, {"detail": "Not Found"})) as s:
        with pytest.raises(InputError) as caught:
            opened(s)(REQUESTS)
        assert str(caught.value) == (
            f"{s.url}: has no batch API (POST files: {status}); remove batch from its settings"
        )


def test_a_busy_server_is_asked_again(opened):
    calls = []

    def refuse(method, path):
        calls.append(path)
        return (429, {"error": {"message": "slow down"}}) if len(calls) in (1, 3, 5) else None

    with BatchServer(refuse=refuse) as s:
        assert texts(opened(s)(REQUESTS)) == WORDS


def test_options_are_scored_in_batches_by_probabilities_or_votes(opened, tmp_path):
    request = LoglikelihoodRequest(REQUESTS[0].messages, ("Problem", "No"))
    with BatchServer() as s:
        (response,) = opened(s)([request])
        assert response.logprobs[0] == pytest.approx(-0.1)
        (lines,) = s.lines
        assert lines[0]["body"]["logprobs"] is True
    (tmp_path / "responses.sqlite").unlink()
    with BatchServer(logprobs=False) as s:
        (response,) = opened(s)([request])
        assert response.votes == 8 and "votes instead of log-probabilities" in response.fallback


def test_votes_of_a_server_that_answers_once_are_several_lines():
    with BatchServer(logprobs=False) as s:
        s.line = lambda name, body, batch: ok(name, s.body(body | {"n": 1}, 0)) and None
        backend = s.batch_backend()
        sent = []
        body = s.body

        def one_answer(fields, number):
            sent.append(fields)
            made = body({k: v for k, v in fields.items() if k != "n"}, number)
            made["choices"][0]["message"]["content"] = "Problem"
            return made

        s.body = one_answer
        backend._states[0].capabilities = None
        request = LoglikelihoodRequest(REQUESTS[0].messages, ("Problem", "No"))
        list(backend.respond([request]))  # the server is found to answer once
        backend._states[0].capabilities.samples = False
        ((_, response),) = backend.respond([ask_other(request)])
    assert response.votes == 8
    assert len(s.lines[-1]) == 8 and len({row["custom_id"] for row in s.lines[-1]}) == 8
    assert "n" not in s.lines[-1][0]["body"]


def ask_other(request):
    return LoglikelihoodRequest((Message(role="user", content="Other?"),), request.options)


def test_equal_requests_are_one_line():
    with BatchServer() as s:
        responses = dict(s.batch_backend().respond([REQUESTS[0], REQUESTS[1], REQUESTS[0]]))
        assert sorted(responses) == [0, 1, 2] and responses[0] == responses[2]
        assert len(s.lines[0]) == 2


def test_large_files_are_divided(opened, monkeypatch):
    monkeypatch.setattr(batches, "MAX_REQUESTS", 3)
    with BatchServer() as s:
        assert texts(opened(s)(REQUESTS)) == WORDS
        assert [len(lines) for lines in s.lines] == [3, 1]
    monkeypatch.setattr(batches, "MAX_BYTES", 10)
    with BatchServer() as s:
        assert len(list(s.batch_backend().respond(REQUESTS))) == 4
        assert [len(lines) for lines in s.lines] == [1, 1, 1, 1]


MISTRAL = ("batch/jobs", "input_files", "output_file", "error_file")


@pytest.mark.parametrize(
    ("url", "options", "purpose"),
    [
        ("https://api.mistral.ai/v1", {"keys": MISTRAL, "status": lambda *_: "SUCCESS"}, "batch"),
        (
            "https://api.together.xyz/v1",
            {"wrap": lambda job: {"job": job}, "status": lambda *_: "COMPLETED"},
            "batch-api",
        ),
    ],
)
def test_providers_that_differ(opened, monkeypatch, url, options, purpose):
    api = api_of(url)
    monkeypatch.setattr("cai.backends.batch_client.api_of", lambda _: api)
    with BatchServer(**options) as s:
        assert texts(opened(s)(REQUESTS)) == WORDS
        assert s.purposes == [purpose] and s.uploads == [f"/v1/{api.upload}"]
        order = s.orders[0]["order"]
        assert order.get("model", "m") == "m" and order["endpoint"] == "/v1/chat/completions"


def test_states_of_batches():
    api = api_of("https://host/v1")
    assert isinstance(api, BatchApi) and api.price == 1.0
    assert api_of("https://api.openai.com/v1").price == 0.5
    state = api.state({"id": "b", "status": "FINALIZING", "request_counts": None, "errors": None})
    assert (state.status, state.done, state.total, state.files) == ("running", 0, 0, ())
    assert api.state({"status": "timeout_exceeded"}).status == "expired"
    assert api.state({"status": "canceled"}).status == "cancelled"
    assert batch_api.is_missing(404) and not batch_api.is_missing(429)


def test_damaged_records_of_batches_count_as_absent(tmp_path):
    log = BatchLog(tmp_path / "batches")
    log.write(Submitted("u", "f", "b", ("1",)))
    (tmp_path / "batches/x.json").write_text("{")
    (tmp_path / "batches/y.json").write_text(json.dumps({"url": "u", "ids": 3}))
    assert BatchLog(tmp_path / "batches").read("u") == [Submitted("u", "f", "b", ("1",))]
    assert log.read("other") == []


def test_batches_go_to_one_server():
    servers = {"mine": Server(url="http://a/v1,http://b/v1", batch=True)}
    with pytest.raises(InputError, match="mine#m: a batch goes to one server"):
        ServerBackend("mine#m", servers=servers)


def test_one_command_labels_pairs_in_a_batch(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from cai.cli.app import app
    from cai.files import read_records
    from cai.records import Preference

    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(5)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with BatchServer() as s:
        servers = ("--set", f"servers.mine.url={s.url}", "--set", "servers.mine.batch=true")
        command = ["judge", "pairs.jsonl", "--judge", "mine#m", "--method", "critique", *servers]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert "batch b0: 10 requests at" in done.output and len(s.orders) == 1
    labels = read_records(tmp_path / "pairs.judge.jsonl", Preference)
    assert [label.status for label in labels] == ["ok"] * 5
    assert not (tmp_path / "responses.batches").exists()


def test_the_judge_as_reward_is_asked_at_once(tmp_path):
    from cai.pipeline.run import OpenBackends

    servers = {"mine": Server(url="http://127.0.0.1:1/v1", batch=True)}
    backends = OpenBackends(servers)
    batched, at_once = backends.get("mine#m"), backends.get("mine#m", in_batches=False)
    assert batched.is_batched and not at_once.is_batched
    assert batched.fingerprint == at_once.fingerprint
    assert backends.get("reference", in_batches=False) is backends.get("reference")
