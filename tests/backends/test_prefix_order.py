"""Requests that begin alike are sent one after the other; the responses keep their places."""

import itertools
import random

import pytest
from fault_server import FaultServer
from request_helpers import conversation, respond

from cai.backends.openai_protocol import render
from cai.backends.prefix_order import prefix_order
from cai.backends.protocol import GenerateRequest
from cai.constitution.schema import Principle
from cai.feedback.judge_methods import JUDGE_METHODS, judge_method
from cai.feedback.requests import rating_request
from cai.records import Comparison, Prompt
from cai.templates import DEFAULT, REFERENCE


def shared(first, second):
    return sum(itertools.takewhile(bool, (a == b for a, b in zip(first, second, strict=False))))


def beginning(first, second):
    return first[: shared(first, second)]


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


PAIR = Comparison.of(Prompt.of("How do I mend the bike?"), "good advice", "bad advice")
PRINCIPLES = [
    Principle(id=name, title=name, critique=f"{name} it is?", compare=f"{name} is it?")
    for name in ("How calm", "Which polite")
]


@pytest.mark.parametrize("templates", [DEFAULT, REFERENCE], ids=["default", "reference"])
@pytest.mark.parametrize("name", JUDGE_METHODS)
def test_requests_about_a_pair_differ_in_the_question_alone(name, templates):
    method = judge_method(name, seed=0)
    asked = [method.requests(PAIR, principle, templates) for principle in PRINCIPLES]
    assert len(asked[0]) > 1
    for one, other in zip(*asked, strict=True):
        same = beginning(render(one, "chat"), render(other, "chat"))
        answers = [answer for answer in (PAIR.first, PAIR.second) if answer in same]
        assert len(answers) == (1 if name == "critique" else 2)


def test_ratings_of_an_answer_differ_in_the_question_alone():
    asked = [rating_request(p, PAIR.prompt, PAIR.first) for p in PRINCIPLES]
    assert PAIR.first in beginning(*(render(request, "chat") for request in asked))
