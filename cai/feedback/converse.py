"""``converse``: cases in, a model's last answers out, after prefixes and follow-ups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cai.arguments import check_count, check_model, check_records, check_sampling
from cai.backends.protocol import Completion, GenerateRequest, Model
from cai.data.cases import Case
from cai.feedback.sample import sample_of
from cai.keys import seed_for
from cai.records import Message, Prompt, Sample

WITH_TEXT = ("ok", "truncated")
"""Statuses of answers that have a text, which is the model's own."""


def converse(
    cases: Sequence[Case],
    model: Model,
    *,
    n: int = 1,
    seed: int = 0,
    temperature: float = 1.0,
    max_tokens: int = 256,
) -> list[Sample]:
    """Hold the conversation of each case with a model.

    A case without prefix and follow-ups is asked exactly as :func:`cai.sample` asks its prompt. A
    conversation ends at an answer without a text, which is returned with its status.

    Args:
        cases: The cases.
        model: The model, from ``ResponseCache(path).cached_model(backend)``.
        n: Number of conversations for each case.
        seed: Random seed.
        temperature: Sampling temperature; 0 is greedy.
        max_tokens: Maximum tokens per answer.

    Returns:
        The last answer of each conversation; its prompt is the conversation before it. Those of one
        case follow each other.

    Raises:
        ArgumentError: naming the argument that cannot be used.
    """
    check_records("cases", cases, Case)
    check_model(model)
    check_count("n", n)
    check_sampling(temperature, max_tokens)
    talks = [(case, draw) for case in cases for draw in range(n)]
    prompts = {i: case.prompt for i, (case, _) in enumerate(talks)}
    last: dict[int, Sample] = {}
    turn = 0

    def request_of(i: int, prompt: Prompt) -> GenerateRequest:
        case, draw = talks[i]
        own_seed = seed_for(seed, "sample", prompt.id, draw)
        request = GenerateRequest(prompt.messages, own_seed, temperature, max_tokens)
        if not case.prefix or turn < len(case.follow_ups):
            return request
        return replace(request, answer_prefix=case.prefix, must_continue=True)

    while prompts:
        requests = {i: request_of(i, prompt) for i, prompt in prompts.items()}
        responses = model(list(requests.values()))
        for (i, request), response in zip(requests.items(), responses, strict=True):
            assert isinstance(response, Completion)
            last[i] = sample_of(prompts[i], talks[i][1], model.fingerprint, request, response)
        prompts = {
            i: _continued(last[i], talks[i][0].follow_ups[turn])
            for i in prompts
            if turn < len(talks[i][0].follow_ups) and last[i].status in WITH_TEXT
        }
        turn += 1
    return [last[i] for i in range(len(talks))]


def _continued(answer: Sample, said: str) -> Prompt:
    """The conversation with the answer and the next turn of the user."""
    turns = (*answer.prompt.with_answer(answer.response), Message(role="user", content=said))
    return Prompt.of(turns, answer.prompt.kind)
