"""What is sent to a server for a request, and what its responses mean."""

import math

import pytest
from request_helpers import conversation

from cai.backends.openai_protocol import (
    TOP_LOGPROBS,
    VOTE_SAMPLES,
    InterruptedResponse,
    completion,
    option_logprobs,
    request_fields,
)
from cai.backends.openai_schema import MalformedResponse, parse_body
from cai.backends.option_matching import logprobs_from_first_token, logprobs_from_votes
from cai.backends.protocol import GenerateRequest, LoglikelihoodRequest

GENERATE = GenerateRequest(conversation("x"), seed=3)
SCORE = LoglikelihoodRequest(conversation("x"), ("Problem", "No problem"))


def body(reason, text="half a sen", usage=None, **fields):
    choice = {"message": {"content": text}, "finish_reason": reason, **fields}
    usage = {} if usage is None else {"usage": usage}
    return parse_body({"model": "m", "choices": [choice], **usage}, "chat")


# -- requests ----------------------------------------------------------------------------------


def test_generate_request_has_every_sampling_value():
    fields = request_fields(GENERATE, "m", "chat")
    assert (fields["temperature"], fields["max_tokens"], fields["top_p"]) == (1.0, 256, 1.0)
    assert fields["seed"] == 3
    greedy = request_fields(GenerateRequest(conversation("x"), 3, 0.0), "m", "chat")
    assert "seed" not in greedy


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("chat", {"logprobs": True, "top_logprobs": TOP_LOGPROBS, "max_tokens": 1}),
        ("plain", {"logprobs": TOP_LOGPROBS, "max_tokens": 1, "prompt": "x"}),
    ],
)
def test_loglikelihood_request_asks_for_first_token_logprobs(dialect, expected):
    assert request_fields(SCORE, "m", dialect).items() >= expected.items()


def test_loglikelihood_request_without_logprobs_asks_for_samples():
    fields = request_fields(SCORE, "m", "chat", logprobs=False)
    assert fields["n"] == VOTE_SAMPLES
    assert "logprobs" not in fields


def test_transcript_has_only_the_turns_of_the_conversation():
    request = GenerateRequest(conversation("a\n\nAssistant: Sure.\n\nHuman: b"), seed=0)
    prompt = request_fields(request, "m", "transcript")["prompt"]
    assert prompt == "Human: a\nAssistant: Sure.\nHuman: b\n\nAssistant:"


# -- completions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("stop", "stop"),
        ("STOP", "stop"),
        ("eos_token", "stop"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("content_filter", "filtered"),
        ("tool_calls", "failed"),
        ("function_call", "failed"),
        ("unheard_of", "failed"),
    ],
)
def test_only_known_finish_reasons_are_good(reason, finish_reason):
    response = completion(body(reason), GENERATE)
    assert response.finish_reason == finish_reason
    if finish_reason in ("stop", "length"):
        assert (response.text, response.reason) == ("half a sen", "")
    else:
        assert (response.text, response.reason) == ("", f"finish_reason {reason!r}")


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_interrupted_responses_are_named(reason):
    for interpret, request in ((completion, GENERATE), (option_logprobs, SCORE)):
        with pytest.raises(InterruptedResponse, match=f"finish_reason '{reason}'"):
            interpret(body(reason), request)


@pytest.mark.parametrize(("generated", "finish_reason"), [(5, "stop"), (256, "length")])
def test_token_count_replaces_a_missing_finish_reason(generated, finish_reason):
    usage = {"prompt_tokens": 3, "completion_tokens": generated}
    assert completion(body(None, usage=usage), GENERATE).finish_reason == finish_reason


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 3, "completion_tokens": None}])
def test_neither_finish_reason_nor_token_count_is_interrupted(usage):
    with pytest.raises(InterruptedResponse, match="neither a finish_reason nor a number of tokens"):
        completion(body(None, usage=usage), GENERATE)


@pytest.mark.parametrize("tokens", [10**30, -5, None, "many", 1.5])
def test_impossible_token_counts_are_zero(tokens):
    usage = {"prompt_tokens": tokens, "completion_tokens": 4}
    response = completion(body("stop", usage=usage), GENERATE)
    assert (response.tokens_in, response.tokens_out) == (0, 4)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "Yes.", "reasoning": "hm"}, "Yes."),
        ({"content": "Yes.", "reasoning_content": "hm"}, "Yes."),
        ({"content": "<think>hm</think>\n\nYes."}, "Yes."),
        ({"content": "<think>hm"}, ""),
        ({"content": None, "reasoning": "hm"}, ""),
    ],
)
def test_reasoning_is_kept_apart(message, text):
    parsed = parse_body({"choices": [{"message": message, "finish_reason": "stop"}]}, "chat")
    response = completion(parsed, GENERATE)
    assert (response.text, response.reasoning, response.finish_reason) == (text, "hm", "stop")


# -- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("stop", "stop"),
        ("length", "stop"),
        (None, "stop"),
        ("content_filter", "filtered"),
        ("tool_calls", "failed"),
    ],
)
def test_option_logprobs_of_the_first_token(reason, finish_reason):
    top = [{"token": "Problem", "logprob": -0.1}, {"token": "No", "logprob": -2.0}]
    logprobs = {"content": [{"top_logprobs": top}]}
    response = option_logprobs(body(reason, logprobs=logprobs, usage={"prompt_tokens": 9}), SCORE)
    assert (response.finish_reason, response.tokens_in) == (finish_reason, 9)
    if finish_reason == "stop":
        assert response.logprobs == pytest.approx((-0.1, -2.0))
    else:
        assert all(map(math.isnan, response.logprobs))
        assert response.reason == f"finish_reason {reason!r}"


def test_nan_logprobs_are_malformed():
    top = {"content": [{"top_logprobs": [{"token": "A", "logprob": math.nan}]}]}
    with pytest.raises(
        MalformedResponse, match=r"choices\.0\.logprobs\.content\.0\.top_logprobs\.0"
    ):
        body("stop", logprobs=top)


def test_missing_logprobs_are_malformed():
    with pytest.raises(MalformedResponse, match="no log-probabilities"):
        option_logprobs(body("stop"), SCORE)


def test_filtered_votes_are_not_counted():
    answers = [
        ("Problem", "length"),
        ("No problem", "content_filter"),
        ("Problem", "stop"),
        ("No problem", "tool_calls"),
    ]
    choices = [{"message": {"content": text}, "finish_reason": end} for text, end in answers]
    response = option_logprobs(parse_body({"choices": choices}, "chat"), SCORE, logprobs=False)
    assert response.votes == 2
    assert [math.exp(p) for p in response.logprobs] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("first_token", "expected"),
    [
        ({"A": -1.0, "B": -2.0}, (-1.0, -2.0)),
        ({" A": -1.0, "And": -0.1}, (-1.0, -math.inf)),
        ({"(A": -1.0, "ĠB": -3.0}, (-1.0, -3.0)),
        ({"C": -0.1}, None),
        ({"": -0.1, " ": -1.0}, None),
    ],
)
def test_options_are_matched_with_first_tokens(first_token, expected):
    logprobs = logprobs_from_first_token(("A", "B"), first_token)
    if expected is None:
        assert all(map(math.isnan, logprobs))
    else:
        assert logprobs == pytest.approx(expected)


def test_first_token_that_fits_two_options_counts_for_none():
    options = ("Problem", "No", "No problem")
    logprobs = logprobs_from_first_token(options, {"No": -0.1, "Problem": -2.0})
    assert logprobs == pytest.approx((-2.0, -math.inf, -math.inf))


def test_options_are_matched_with_sampled_answers():
    options = ("No", "No problem")
    logprobs = logprobs_from_votes(options, ["No problem.", " *No*", "Nothing", "?", "No problem"])
    assert [math.exp(p) for p in logprobs] == pytest.approx([1 / 5, 2 / 5])
    assert all(map(math.isnan, logprobs_from_votes(options, ["?", ""])))
