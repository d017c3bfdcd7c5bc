"""Two servers of one model name are told apart, and what finding out costs is counted."""

import pytest
from fault_server import PROBES, FaultServer
from request_helpers import generate_requests, respond

from cai.backends.budget import Budget
from cai.backends.identity import Identity, agreement, models_of
from cai.backends.response_cache import ResponseCache
from cai.backends.server import ServerBackend
from cai.errors import InputError, LimitReached

REQUESTS = generate_requests(3)


class Other(FaultServer):
    """A server of the same name whose model says other words."""

    def body(self, fields, number):
        body = super().body(fields, number)
        body["choices"][0]["message"]["content"] += " or so"
        return body


class Longer(FaultServer):
    """A server whose model says the same and reads another number of tokens."""

    def body(self, fields, number):
        body = super().body(fields, number)
        return body | {"usage": {"prompt_tokens": 11, "completion_tokens": 2}}


class Renamed(FaultServer):
    """A server that answers as another model."""

    def body(self, fields, number):
        return super().body(fields, number) | {"model": "org/other"}


class Rounded(FaultServer):
    """The same model on other hardware: one of its likeliest answers goes on differently."""

    def body(self, fields, number):
        body = super().body(fields, number)
        if "lighthouse" in fields["messages"][-1]["content"]:
            body["choices"][0]["message"]["content"] = "another sentence"
        return body


def texts(path, server, budget=None):
    with ResponseCache(path, budget) as cache:
        model = cache.cached_model(server.backend(), "s")
        return [response.text for response in model(REQUESTS)], model.fingerprint, cache


@pytest.mark.parametrize("kind", [Other, Longer, Renamed])
def test_another_model_of_the_same_name_is_asked_anew(tmp_path, kind):
    path = tmp_path / "m.sqlite"
    with FaultServer() as one, kind() as other:
        _, first, _ = texts(path, one)
        answers, second, cache = texts(path, other)
        assert first != second and first.startswith("server:m:")
        assert cache.usage["s"].cached == 0
        assert answers == [other.body(r, 1)["choices"][0]["message"]["content"] for r in fields()]


def fields():
    return [{"messages": [{"content": r.messages[-1].content}]} for r in REQUESTS]


def test_the_same_model_at_another_url_keeps_its_answers(tmp_path):
    path = tmp_path / "m.sqlite"
    with FaultServer() as one, FaultServer() as moved:
        assert texts(path, one)[:2] == texts(path, moved)[:2]
        assert len(moved.requests) == PROBES


def test_the_same_model_on_other_hardware_keeps_its_answers(tmp_path):
    path = tmp_path / "m.sqlite"
    with FaultServer() as one, Rounded() as moved:
        assert texts(path, one)[:2] == texts(path, moved)[:2]
        assert len(moved.requests) == PROBES
        *_, cache = texts(path, one)
        assert cache.usage["s"].cached == 3
        assert cache.notes == []
        backend = ServerBackend(f"{one.url},{moved.url}#m")
        backend.identify()
        assert len(backend.urls) == 2 and backend.notes == []


def test_a_server_that_was_gone_may_come_back_on_other_hardware(tmp_path):
    path = tmp_path / "m.sqlite"
    with FaultServer() as one, Rounded() as moved:
        _, before, _ = texts(path, one)
        backend = moved.backend()
        with ResponseCache(path) as cache:
            backend.recall(cache.identities())
        backend.assume(before)
        assert len(respond(backend, REQUESTS)) == 3
        assert backend.fingerprint == before


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("a b c d", "a b c d", 1),
        ("a b c d", "a b x d", 0.5),
        ("a b", "a b or so", 0.5),
        ("a b", "b a", 0),
        ("你好世界", "你好吗", 0.5),
        ("", "", 1),
        ("", "a", 0),
    ],
)
def test_answers_agree_up_to_their_first_difference(one, other, agree):
    assert agreement(one, other) == agree == agreement(other, one)


def test_most_answers_of_one_model_agree():
    known = Identity(reported="m", answers=("a b c d", "e f g h", "i j k l"))
    assert known.difference(Identity(answers=("a b c d", "e f g h", "x y z"))) == ""
    assert known.difference(Identity(answers=("a b c x", "e f x y", "i j x y"))) != ""
    what = known.difference(Identity(answers=("a b c d", "x f g h", "x y z")))
    assert what == "answers 'e f g h' and 'x f g h'"
    assert Identity.from_json(known.json) == known


def test_server_whose_model_was_replaced_is_named(tmp_path):
    path = tmp_path / "m.sqlite"
    with FaultServer() as server:
        texts(path, server)
        server.script = lambda number, fields: (
            (200, {}, server.body(fields, number) | {"model": "org/other"})
        )
        *_, cache = texts(path, server)
    assert "has another model than before" in cache.notes[0]


def test_answers_of_a_server_that_is_gone_can_still_be_read(tmp_path):
    path = tmp_path / "m.sqlite"
    with FaultServer() as server:
        expected = texts(path, server)[:2]
    with ResponseCache(path) as cache:
        model = cache.cached_model(server.backend(attempts=1), "s")
        assert ([r.text for r in model(REQUESTS)], model.fingerprint) == expected
        with pytest.raises(LimitReached, match="does not answer"):
            model(generate_requests(4))


def test_probes_are_paid_and_kept_within_the_budget(tmp_path):
    path = tmp_path / "m.sqlite"
    with FaultServer() as server:
        *_, cache = texts(path, server)
        assert cache.usage["s"].requests == PROBES + 3 == len(server.requests)
        for _ in range(2):
            with pytest.raises(LimitReached), ResponseCache(path, Budget(requests=8)) as cache:
                cache.cached_model(server.backend(), "s")(generate_requests(9))
        assert len(server.requests) == PROBES + 3
    with ResponseCache(path) as cache:
        assert cache.totals()["s"].tokens_in == 7 * (PROBES + 3)


def test_two_urls_with_different_models_are_refused():
    with FaultServer() as one, Other() as other:
        backend = ServerBackend(f"{one.url},{other.url}#m")
        with pytest.raises(InputError, match=r"are different models \(answers '\d+ words'"):
            backend.identify()


def test_answers_that_vary_are_no_part_of_the_identity():
    with FaultServer(seeds=False) as server:
        fingerprints = set()
        for _ in range(2):
            backend = server.backend()
            backend.identify()
            fingerprints.add(backend.fingerprint)
    assert len(fingerprints) == 1


def test_only_what_both_report_is_compared():
    known = Identity(reported="m", root="llama", prompt_tokens=9, answers=("Hi.",))
    assert known.difference(Identity(reported="m")) == ""
    assert known.difference(Identity(root="qwen")) == "root 'llama' and 'qwen'"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": 3}', b'{"data": [1]}', b"[" * 9999])
def test_lists_of_models_that_are_none(body):
    assert models_of(body) == []
