"""Requests that begin alike are sent one after the other; the responses keep their places."""

import itertools
import random

from fault_server import FaultServer
from request_helpers import conversation, respond

from cai.backends.prefix_order import prefix_order
from cai.backends.protocol import GenerateRequest


def shared(first, second):
    return sum(itertools.takewhile(bool, (a == b for a, b in zip(first, second, strict=False))))


def test_every_text_follows_the_one_it_shares_most_with():
    texts = [f"conversation {c} principle {p}" for p in range(16) for c in range(9)]
    random.Random(0).shuffle(texts)
    ordered = [texts[i] for i in prefix_order(texts)]
    assert sorted(ordered) == sorted(texts)
    for number, text in enumerate(ordered[1:], start=1):
        most = max(shared(text, earlier) for earlier in ordered[:number])
        assert shared(text, ordered[number - 1]) == most


def test_a_server_gets_them_in_order_and_responses_keep_their_places():
    texts = [f"{'abc'[i % 3]} " * 20 + "word " * i for i in range(12)]
    requests = [GenerateRequest(conversation(text), seed=0) for text in texts]
    with FaultServer() as server:
        responses = respond(server.backend(concurrency=1), requests)
        sent = [f["messages"][-1]["content"] for f in server.requests if f["max_tokens"] == 256]
    assert [r.text for r in responses] == [f"{20 + i} words" for i in range(12)]
    assert [text[0] for text in sent] == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
