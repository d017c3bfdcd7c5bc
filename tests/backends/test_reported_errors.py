"""Errors that users of servers have reported, each sent by a server after it has answered.

The threads are in docs/reference/servers.md.
"""

import pytest
from fault_server import FaultServer, after_probes
from request_helpers import assert_tried_again, generate_requests, respond

from cai.errors import InputError, LimitReached


def error(message, **fields):
    return {"error": {"message": message, **fields}}


OUT_OF_MONEY = {
    "OpenRouter": (403, error("Key limit exceeded (monthly limit). Manage it using ...", code=403)),
    "LiteLLM": (
        429,
        error("Budget has been exceeded! Current cost: 10.5, Max budget: 10", code="429"),
    ),
    "LiteLLM, deployment": (
        429,
        error("No deployments available - crossed budget: x: 0.363 >= 1d"),
    ),
    "Anthropic": (
        400,
        error("You have reached your specified API usage limits. You will regain access on ..."),
    ),
    "Moonshot": (403, error("not active", type="exceeded_current_quota_error")),
    "Moonshot, suspended": (429, error("Your account org-1 <ak-1> is suspended, ...")),
    "Zhipu": (429, error("余额不足或无可用资源包,请充值。", code="1113")),
    "MiniMax": (200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
}


@pytest.mark.parametrize("who", OUT_OF_MONEY)
def test_money_that_is_used_up_stops_the_run(who):
    status, body = OUT_OF_MONEY[who]
    with (
        FaultServer(after_probes(status, {}, body)) as server,
        pytest.raises(LimitReached, match="the quota is used up"),
    ):
        respond(server.backend(), generate_requests(3))


OF_THE_PROMPT = {
    "TensorRT-LLM": (
        400,
        error(
            "The sum of prompt length (9351.0), query length (0) should not exceed "
            "max_num_tokens (8192)"
        ),
        "too_long",
    ),
    "Moonshot": (
        400,
        error(
            "Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)"
        ),
        "too_long",
    ),
    "SiliconFlow": (
        400,
        {"code": 20015, "message": "length of prompt_tokens (57535) must be less than max_seq_len"},
        "too_long",
    ),
    "llama.cpp, batch": (
        500,
        error("input is too large to process. increase the physical batch size", code=500),
        "too_long",
    ),
    "RKLLM": (
        400,
        "Prompt is 11543 tokens but the model context window is 4096 tokens.",
        "too_long",
    ),
    "New API": (
        400,
        error("input contains sensitive words: [test]", code="sensitive_words_detected"),
        "filtered",
    ),
    "MiniMax": (
        200,
        {"choices": None, "base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}},
        "filtered",
    ),
}


@pytest.mark.parametrize("who", OF_THE_PROMPT)
def test_errors_about_one_prompt_are_records_and_not_tried_again(who):
    status, body, finish_reason = OF_THE_PROMPT[who]
    with FaultServer(after_probes(status, {}, body)) as server:
        responses = respond(server.backend(), generate_requests(3))
        asked = [fields for fields in server.requests if "word " in str(fields["messages"])]
    assert [response.finish_reason for response in responses] == [finish_reason] * 3
    assert all(response.reason for response in responses)
    assert len(asked) == 3


def test_an_answer_without_choices_is_tried_again():
    assert_tried_again(
        {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None}
    )


def test_an_organization_that_is_locked_is_named():
    body = error("Organization has been restricted. ...", code="organization_restricted")
    with FaultServer(after_probes(400, {}, body)) as server, pytest.raises(InputError, match="key"):
        respond(server.backend(), generate_requests(1))
