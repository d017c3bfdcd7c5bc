"""The OpenAI-compatible protocol: build the fields of a request, and interpret the response."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
    failed,
)
from cai.cleaning import excerpt

TOP_LOGPROBS = 20
"""Number of first tokens whose log-probabilities are requested: the most that servers give."""
VOTE_SAMPLES = 8
"""Number of answers that are sampled from a server without log-probabilities."""
VOTE_TOKENS = 8
"""Maximum length of such an answer."""

FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "completed": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "blocklist": "filtered",
    "content_filter": "filtered",
    "content_filtered": "filtered",
    "guardrail_intervened": "filtered",
    "prohibited_content": "filtered",
    "recitation": "filtered",
    "refusal": "filtered",
    "safety": "filtered",
    "sensitive": "filtered",
    "spii": "filtered",
}
"""What the finish reasons of servers mean; any other (``tool_calls`` ...) is a failure."""
INTERRUPTED = {
    "abort",
    "aborted",
    "cancelled",
    "error",
    "insufficient_system_resource",
    "network_error",
    "timeout",
}
"""Finish reasons after which another attempt may succeed."""


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

    Returns:
        The arguments, by name.
    """
    # servers have default values of their own, so top_p is always set
    fields: dict[str, Any] = {"model": model, "top_p": 1.0}
    if dialect == "chat":
        fields["messages"], extra = _chat_messages(request, continuation)
        if disable_thinking:
            extra["chat_template_kwargs"] = {"enable_thinking": False}
        if extra:
            fields["extra_body"] = extra
    else:
        fields["prompt"] = render(request, dialect)
        if dialect == "transcript":
            fields["stop"] = list(templates.TRANSCRIPT_STOPS)
    if isinstance(request, GenerateRequest):
        fields |= {"temperature": request.temperature, "max_tokens": request.max_tokens}
        if request.temperature:
            fields["seed"] = request.seed % (1 << 31)
        return fields
    if not logprobs:
        sampling = {"temperature": 1.0, "max_tokens": VOTE_TOKENS, "seed": 0, "n": VOTE_SAMPLES}
        return fields | sampling
    # the sampled token is ignored; only the log-probabilities at its position matter
    fields |= {"temperature": 1.0, "max_tokens": 1}
    if dialect == "chat":
        return fields | {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    return fields | {"logprobs": TOP_LOGPROBS}


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


def completion(body: Body, request: GenerateRequest) -> Completion:
    """Interpret the response to a generate request.

    Args:
        body: What the server sent.
        request: The request.

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
    finish_reason, reason = _ending(body, request.max_tokens)
    if finish_reason in ("filtered", "failed"):
        return Completion("", finish_reason, *body.tokens, reason)
    if not has_text:
        raise MalformedResponse("choices.0: no text")
    reasoning, text = choice.reasoning, choice.content or ""
    if not reasoning:
        reasoning, text = _split_reasoning(text)
    if isinstance(body, ChatBody):
        text = text.strip()
    return Completion(text, finish_reason, *body.tokens, reasoning=reasoning)


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
    if name in INTERRUPTED:
        raise InterruptedResponse(shown)
    finish_reason = FINISH_REASONS.get(name, "failed")
    return finish_reason, shown if finish_reason in ("filtered", "failed") else ""


def _refused(refusal: str) -> str:
    return f"the model refused: {excerpt(refusal)}"


def _split_reasoning(text: str) -> tuple[str, str]:
    """Return the reasoning and the answer of a text that still has its reasoning tags."""
    before, closing_tag, after = text.partition("</think>")
    if closing_tag:
        return before.replace("<think>", "").strip(), after
    if text.lstrip().startswith("<think>"):
        return text.replace("<think>", "").strip(), ""
    return "", text


def option_logprobs(
    body: Body, request: LoglikelihoodRequest, *, logprobs: bool = True
) -> OptionLogprobs:
    """Interpret the response to a loglikelihood request.

    Only the beginning of an answer matters, so it may be cut off or have no finish reason.

    Args:
        body: What the server sent.
        request: The request.
        logprobs: Whether log-probabilities were requested, or several answers.

    Returns:
        The log-probabilities of the options.

    Raises:
        MalformedResponse: If log-probabilities were requested and are missing.
        InterruptedResponse: If the server did not finish the answer.
    """
    usable: list[ChatChoice | TextChoice] = []
    problems: list[tuple[FinishReason, str]] = []
    for choice in body.choices:
        finish_reason, reason = _interpret(choice.finish_reason or "stop")
        if choice.refusal:
            finish_reason, reason = "filtered", _refused(choice.refusal)
        if finish_reason in ("stop", "length"):
            usable.append(choice)
        else:
            problems.append((finish_reason, reason))
    tokens_in, tokens_out = body.tokens
    if not usable:
        finish_reason, reason = problems[0]
        response = failed(request, reason, finish_reason)
        assert isinstance(response, OptionLogprobs)
        return replace(response, tokens_in=tokens_in, tokens_out=tokens_out)
    if not logprobs:
        answers = [choice.content or "" for choice in usable]
        scores = logprobs_from_votes(request.options, answers)
        return OptionLogprobs(scores, tokens_in, votes=len(answers), tokens_out=tokens_out)
    first_token = usable[0].first_token
    if first_token is None:
        raise MissingLogprobs("choices.0: no log-probabilities")
    scores = logprobs_from_first_token(request.options, first_token)
    return OptionLogprobs(scores, tokens_in, tokens_out=tokens_out)
