"""The OpenAI-compatible protocol: build the fields of a request, and interpret the response."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from cai import templates
from cai.backends.openai_schema import (
    Body,
    ChatBody,
    ChatChoice,
    Continuation,
    Dialect,
    MalformedResponse,
    TextChoice,
)
from cai.backends.option_matching import logprobs_from_first_token, logprobs_from_votes
from cai.backends.protocol import (
    Completion,
    FinishReason,
    GenerateRequest,
    LoglikelihoodRequest,
    OptionLogprobs,
    Request,
    cut_reasoning,
    failed,
)
from cai.backends.structured import JSON_TOKENS, Choosing, choice_fields, chosen
from cai.cleaning import excerpt
from cai.models.reasoning import split_reasoning

TOP_LOGPROBS = 20
"""Number of first tokens whose log-probabilities are requested: the most that servers give."""
VOTE_SAMPLES = 8
"""Number of answers that are sampled from a server without log-probabilities."""
VOTE_TOKENS = 8
"""Maximum length of such an answer."""
SPARE_LOGPROBS = 3
"""Tokens beside the options whose log-probabilities are requested of a model that reasons."""

ALL_REASONING = "there is no answer: the server took all that the model wrote for reasoning"
"""Why an answer is empty that has reasoning; the server's parser of reasoning may not fit."""


class InterruptedResponse(Exception):
    """An answer that the server did not finish; the message says why."""


class MissingLogprobs(MalformedResponse):
    """A response without the log-probabilities that were requested."""


def render(request: Request, dialect: Dialect) -> str:
    """Return the text of a request.

    Args:
        request: The request.
        dialect: How it is sent.

    Returns:
        What the model reads, for ``transcript`` and ``plain``. For ``chat`` the server has the
        template, so the turns are listed in a form of our own.
    """
    begun = request.answer_prefix
    if dialect == "plain":
        return "".join(m.content for m in request.messages) + begun
    if dialect == "transcript":
        text = templates.transcript([m.model_dump() for m in request.messages])
        return f"{text} {begun}" if begun else text
    turns = [f"<{m.role}>\n{m.content}" for m in request.messages]
    return "\n".join([*turns, f"<assistant>\n{begun}"] if begun else turns)


def request_fields(
    request: Request,
    model: str,
    dialect: Dialect,
    *,
    logprobs: bool = True,
    disable_thinking: bool = False,
    continuation: Continuation = "none",
    choosing: Choosing = "none",
    reasoning_tokens: int = 0,
) -> dict[str, Any]:
    """Build the arguments of the client's ``create`` method.

    Args:
        request: The request.
        model: Name of the model on the server.
        dialect: How the request is sent.
        logprobs: Whether the server gives log-probabilities; otherwise options are scored by
            sampling several answers.
        disable_thinking: Whether to ask the server's chat template for no reasoning.
        continuation: How the server is made to continue an answer that was begun.
        choosing: How the server is told which answers are allowed. A model that reasons is not
            told, since some servers would keep it from reasoning.
        reasoning_tokens: Tokens that the model may use to reason before it answers, on top of those
            of the answer; 0 for a model that does not reason. A begun answer would keep it from
            reasoning, so such a model is asked for the options in words.

    Returns:
        The arguments, by name.
    """
    # servers have default values of their own, so top_p is always set
    fields: dict[str, Any] = {"model": model, "top_p": 1.0}
    is_chat, more = dialect == "chat", dict[str, Any]()
    if is_chat:
        choices = request.choices if isinstance(request, GenerateRequest) else ()
        way: Choosing = choosing if choices and not reasoning_tokens else "none"
        begun = continuation if not reasoning_tokens and way != "json_schema" else "none"
        fields["messages"], extra = _chat_messages(request, begun)
        known, own = choice_fields(choices, way)
        if known and isinstance(request, GenerateRequest):
            more = known | {"max_tokens": request.max_tokens + JSON_TOKENS}
        extra |= own
        if disable_thinking:
            extra["chat_template_kwargs"] = {"enable_thinking": False}
        if extra:
            fields["extra_body"] = extra
    else:
        fields["prompt"] = render(request, dialect)
        if dialect == "transcript":
            fields["stop"] = list(templates.TRANSCRIPT_STOPS)
    return fields | _sampling_fields(request, is_chat, logprobs, reasoning_tokens) | more


def _sampling_fields(
    request: Request,
    is_chat: bool,  # noqa: FBT001
    logprobs: bool,  # noqa: FBT001
    reasoning_tokens: int,
) -> dict[str, Any]:
    """Return the fields that say how many tokens are sampled, and what is sent of them."""
    if isinstance(request, GenerateRequest):
        max_tokens = request.max_tokens + reasoning_tokens
        fields = {"temperature": request.temperature, "max_tokens": max_tokens}
        if request.temperature:
            fields["seed"] = request.seed % (1 << 31)
        return fields
    if not logprobs:
        max_tokens = VOTE_TOKENS + reasoning_tokens
        return {"temperature": 1.0, "max_tokens": max_tokens, "seed": 0, "n": VOTE_SAMPLES}
    # without reasoning, only the log-probabilities at the first position matter
    fields = {"temperature": 1.0, "max_tokens": 1}
    if reasoning_tokens:
        fields |= {"max_tokens": VOTE_TOKENS + reasoning_tokens, "seed": 0}
    top = _top_logprobs(request, reasoning_tokens)
    return fields | ({"logprobs": True, "top_logprobs": top} if is_chat else {"logprobs": top})


def _chat_messages(
    request: Request, continuation: Continuation
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the messages of a request, and the fields that go with an answer that was begun."""
    messages: list[dict[str, Any]] = [m.model_dump() for m in request.messages]
    if not request.answer_prefix:
        return messages, {}
    if continuation == "none":
        if isinstance(request, LoglikelihoodRequest):
            question = messages[-1]["content"]
            messages[-1]["content"] = templates.answer_alone(question, request.options)
        return messages, {}
    begun = {"role": "assistant", "content": request.answer_prefix}
    if continuation == "prefix":
        return [*messages, begun | {"prefix": True}], {}
    fields = {"continue_final_message": True, "add_generation_prompt": False}
    return [*messages, begun], fields if continuation == "continue_final_message" else {}


def completion(body: Body, request: GenerateRequest, *, reasoning_tokens: int = 0) -> Completion:
    """Interpret the response to a generate request.

    Args:
        body: What the server sent.
        request: The request.
        reasoning_tokens: Tokens that the model was given to reason.

    Returns:
        The completion.

    Raises:
        MalformedResponse: If there is no text.
        InterruptedResponse: If the server did not finish the answer.
    """
    choice = body.choices[0]
    if choice.refusal:
        return Completion("", "filtered", *body.tokens, _refused(choice.refusal))
    has_text = choice.content is not None or bool(choice.reasoning)
    if not has_text and not choice.finish_reason:
        raise MalformedResponse("choices.0: no text")
    max_tokens = request.max_tokens + reasoning_tokens
    finish_reason, reason = _ending(body, max_tokens)
    if finish_reason in ("filtered", "failed"):
        return Completion("", finish_reason, *body.tokens, reason)
    if not has_text and finish_reason != "length":
        raise MalformedResponse("choices.0: no text")
    reasoning, text = split_reasoning(choice.content or "")
    if isinstance(body, ChatBody):
        text = text.strip()
    if not text.strip() and finish_reason == "length":
        reason = cut_reasoning(max_tokens)
    reasoning = choice.reasoning or reasoning
    if not text.strip() and reasoning and finish_reason == "stop":
        reason = ALL_REASONING
    if request.choices:
        text = chosen(text, request.choices)
    return Completion(text, finish_reason, *body.tokens, reason, reasoning)


def _ending(body: Body, max_tokens: int) -> tuple[FinishReason, str]:
    """Return how the first answer ended, and why if it did not end well.

    A whole answer has a finish reason. Servers such as llama.cpp and Ollama leave it null in all
    parts of a stream but the last, so a body without one was put together from a stream. The number
    of tokens, which also comes last, then shows whether the answer reached its limit. Without that
    number the end of the stream is missing, and the text may be cut in the middle of a sentence.

    Raises:
        InterruptedResponse: If the server did not finish the answer.
    """
    reason = body.choices[0].finish_reason
    if reason:
        return _interpret(reason)
    _, generated = body.tokens
    if not generated:
        raise InterruptedResponse("it has neither a finish_reason nor a number of tokens")
    return ("length" if generated >= max_tokens else "stop"), ""


def _interpret(reason: str) -> tuple[FinishReason, str]:
    """Return what a server's finish reason means, in upper or lower case, and why it is bad."""
    name = reason.strip().lower()
    shown = f"finish_reason {excerpt(reason, 60)!r}"
    finish_reason = _finish_reasons().get(name, "failed")
    if finish_reason == "interrupted":
        raise InterruptedResponse(shown)
    return finish_reason, shown if finish_reason in ("filtered", "failed") else ""


@cache
def _finish_reasons() -> dict[str, FinishReason | Literal["interrupted"]]:
    path = Path(__file__).with_name("finish_reasons.yaml")
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: meaning for meaning, names in table.items() for name in names}


def _refused(refusal: str) -> str:
    return f"the model refused: {excerpt(refusal)}"


def option_logprobs(
    body: Body,
    request: LoglikelihoodRequest,
    *,
    logprobs: bool = True,
    reasoning_tokens: int = 0,
) -> OptionLogprobs:
    """Interpret the response to a loglikelihood request.

    Only the beginning of an answer matters, so it may be cut off or have no finish reason.

    Args:
        body: What the server sent.
        request: The request.
        logprobs: Whether log-probabilities were requested, or several answers.
        reasoning_tokens: Tokens that the model was given to reason; its options are scored where
            its answer begins.

    Returns:
        The log-probabilities of the options.

    Raises:
        MalformedResponse: If log-probabilities were requested and are missing.
        InterruptedResponse: If the server did not finish the answer.
    """
    tokens_in, tokens_out = body.tokens
    has_to_answer = bool(reasoning_tokens) or not logprobs
    usable, problem = _usable_choices(body, VOTE_TOKENS + reasoning_tokens if has_to_answer else 0)
    if not usable:
        response = failed(request, problem[1], problem[0])
        assert isinstance(response, OptionLogprobs)
        return replace(response, tokens_in=tokens_in, tokens_out=tokens_out)
    if not logprobs:
        answers = [_answer_of(choice) for choice in usable]
        scores = logprobs_from_votes(request.options, answers)
        fallback = f"{len(answers)} of {VOTE_SAMPLES} votes instead of log-probabilities"
        return OptionLogprobs(
            scores, tokens_in, votes=len(answers), tokens_out=tokens_out, fallback=fallback
        )
    choice = usable[0]
    first_token = choice.first_token
    if reasoning_tokens and isinstance(choice, ChatChoice):
        first_token = choice.token_of(_answer_of(choice))
    if first_token is None:
        raise MissingLogprobs("choices.0: no log-probabilities")
    asked = _top_logprobs(request, reasoning_tokens)
    fallback = f"{len(first_token)} log-probabilities instead of {asked}"
    return OptionLogprobs(
        logprobs_from_first_token(request.options, first_token),
        tokens_in,
        tokens_out=tokens_out,
        fallback=fallback if len(first_token) < asked else "",
    )


def _usable_choices(
    body: Body, max_tokens: int
) -> tuple[list[ChatChoice | TextChoice], tuple[FinishReason, str]]:
    """Return the answers that ended well, and how the first of the others ended.

    Args:
        body: What the server sent.
        max_tokens: Tokens in which an answer had to begin; 0 if any beginning will do.
    """
    usable: list[ChatChoice | TextChoice] = []
    problems: list[tuple[FinishReason, str]] = []
    for choice in body.choices:
        finish_reason, reason = _interpret(choice.finish_reason or "stop")
        if choice.refusal:
            finish_reason, reason = "filtered", _refused(choice.refusal)
        if finish_reason == "length" and max_tokens and not _answer_of(choice):
            problems.append(("length", cut_reasoning(max_tokens)))
        elif finish_reason in ("stop", "length"):
            usable.append(choice)
        else:
            problems.append((finish_reason, reason))
    return usable, (problems or [("stop", "")])[0]


def _top_logprobs(request: LoglikelihoodRequest, reasoning_tokens: int) -> int:
    """Return for how many tokens log-probabilities are requested."""
    # every token of the reasoning comes with its own, so that few are asked for then
    few = min(TOP_LOGPROBS, len(request.options) + SPARE_LOGPROBS)
    return few if reasoning_tokens else TOP_LOGPROBS


def _answer_of(choice: ChatChoice | TextChoice) -> str:
    """Return the text of an answer, without reasoning."""
    return split_reasoning(choice.content or "").answer.strip()
