"""The OpenAI-compatible protocol: what is sent for a call, and how what comes back is read, strictly.

Two dialects: ``chat`` sends the turns and lets the server render them; ``text`` sends the paper's "Human: / Assistant:"
transcript (or the bare texts) to a base model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, FiniteFloat, ValidationError

from cai import templates
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

Dialect = Literal["chat", "transcript", "plain"]
TOP = 20
"""Log-probabilities asked for at the position of a verdict: the most that servers give."""
VOTE_SAMPLES, VOTE_TOKENS = 8, 8
"""Samples taken where a server gives no log-probabilities, and their length."""
VERDICT_PREFIXES = "(*_\"'`[ "
"""What models like to put before a verdict."""

FINISHES: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "filtered",
    "safety": "filtered",
}
"""The finish reasons that say how an answer ended; after any other one (``tool_calls``, ``error`` ...) it is ``failed``."""
BROKEN_OFF = {"abort", "cancelled", "error", "insufficient_system_resource"}
"""The finish reasons after which a second attempt may go better."""
MOST_TOKENS = 1_000_000_000


class MalformedResponse(Exception):
    """An answer that is not what the protocol says; the text is what was wrong."""


class BrokenOff(Exception):
    """An answer that the server itself did not finish; the text is its reason."""


class _Top(BaseModel):
    token: str
    logprob: FiniteFloat


class _Position(BaseModel):
    top_logprobs: list[_Top] = []


class _ChatLogprobs(BaseModel):
    content: list[_Position] | None = None


class _TextLogprobs(BaseModel):
    top_logprobs: list[dict[str, FiniteFloat]] | None = None


class _Message(BaseModel):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None  # the older name


class _ChatChoice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _ChatLogprobs | None = None

    @property
    def said(self) -> str | None:
        return self.message.content

    @property
    def reasoning(self) -> str:
        return self.message.reasoning or self.message.reasoning_content or ""

    @property
    def first_token(self) -> dict[str, float] | None:
        if self.logprobs is None or not self.logprobs.content:
            return None
        return {top.token: top.logprob for top in self.logprobs.content[0].top_logprobs} or None


class _TextChoice(BaseModel):
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _TextLogprobs | None = None

    @property
    def said(self) -> str | None:
        return self.text

    @property
    def reasoning(self) -> str:
        return ""

    @property
    def first_token(self) -> dict[str, float] | None:
        if self.logprobs is None or not self.logprobs.top_logprobs:
            return None
        return dict(self.logprobs.top_logprobs[0]) or None


def _count(value: object) -> int:
    """A number of tokens; 0 where the server gives something that cannot be one."""
    return value if isinstance(value, int) and 0 <= value <= MOST_TOKENS else 0


Tokens = Annotated[int, BeforeValidator(_count)]


class _Usage(BaseModel):
    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0


class _Body(BaseModel):
    model: str = ""
    usage: _Usage | None = None


class ChatBody(_Body):
    """The body of an answer to ``/chat/completions``."""

    choices: list[_ChatChoice] = Field(min_length=1)


class TextBody(_Body):
    """The body of an answer to ``/completions``."""

    choices: list[_TextChoice] = Field(min_length=1)


Body = ChatBody | TextBody


def parse(data: object, dialect: Dialect) -> Body:
    """Check a decoded body.

    Raises:
        Malformed: if it has no choices, a field of another type, or a log-probability that is no number.
    """
    try:
        return (ChatBody if dialect == "chat" else TextBody).model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise MalformedResponse(
            f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
        ) from None


def render(request: Request, dialect: Dialect) -> str:
    """What a model of the ``text`` dialects reads; for ``chat``, the turns one under the other."""
    if dialect == "plain":
        return "".join(m.content for m in request.messages)
    if dialect == "transcript":
        return templates.transcript([m.model_dump() for m in request.messages])
    return "\n".join(f"<{m.role}>\n{m.content}" for m in request.messages)


def request(
    request: Request, model: str, dialect: Dialect, *, logprobs: bool = True, quiet: bool = False
) -> dict[str, Any]:
    """The fields of the request for a call; ``top_p`` is spelt out since servers have defaults of their own.

    ``quiet`` asks the server's chat template not to let the model think aloud.
    """
    fields: dict[str, Any] = {"model": model, "top_p": 1.0}
    if dialect == "chat":
        fields["messages"] = [m.model_dump() for m in request.messages]
        if quiet:
            fields["extra_body"] = {"chat_template_kwargs": {"enable_thinking": False}}
    else:
        fields["prompt"] = render(request, dialect)
        if dialect == "transcript":
            fields["stop"] = [templates.TRANSCRIPT_STOP]
    if isinstance(request, GenerateRequest):
        chance = {"seed": request.seed % (1 << 31)} if request.temperature else {}
        return (
            fields | {"temperature": request.temperature, "max_tokens": request.max_tokens} | chance
        )
    if logprobs:
        asked = {"logprobs": True, "top_logprobs": TOP} if dialect == "chat" else {"logprobs": TOP}
        return (
            fields | {"temperature": 1.0, "max_tokens": 1} | asked
        )  # what is drawn is not looked at
    return fields | {"temperature": 1.0, "max_tokens": VOTE_TOKENS, "seed": 0, "n": VOTE_SAMPLES}


def completion(body: Body, request: GenerateRequest) -> Completion:
    """The answer to a :class:`GenerateRequest` call.

    Raises:
        Malformed: if there is no text.
        BrokenOff: if the server did not finish the answer.
    """
    first = body.choices[0]
    silent = first.said is None and not first.reasoning
    if silent and not first.finish_reason:
        raise MalformedResponse("choices.0: no text")
    finish_reason, note = _finish(body, request.max_tokens)
    if finish_reason in ("filtered", "failed"):
        return Completion("", finish_reason, *_tokens(body), note)
    if silent:
        raise MalformedResponse("choices.0: no text")
    reasoning, said = (
        _split(first.said or "") if not first.reasoning else (first.reasoning, first.said or "")
    )
    return Completion(
        said.strip() if isinstance(body, ChatBody) else said,
        finish_reason,
        *_tokens(body),
        reasoning=reasoning,
    )


def _finish(body: Body, max_tokens: int) -> tuple[FinishReason, str]:
    """How the first answer ended, and why where it did not end well.

    A whole answer has a finish reason. Servers such as llama.cpp and Ollama leave it null in every part of a stream but the
    last, so a body without one was put together from a stream. The number of tokens, which also comes last, then says whether
    the answer reached its limit; without that number the end of the stream is missing, and the text may be half a sentence.

    Raises:
        BrokenOff: if the server did not finish the answer.
    """
    reason = body.choices[0].finish_reason
    if reason:
        return _known(reason)
    written = _tokens(body)[1]
    if not written:
        raise BrokenOff("it has neither a finish_reason nor a number of tokens")
    return ("length" if written >= max_tokens else "stop"), ""


def _known(reason: str) -> tuple[FinishReason, str]:
    """What a finish reason means, in any case of letters."""
    name = reason.strip().lower()
    if name in BROKEN_OFF:
        raise BrokenOff(f"finish_reason {excerpt(reason, 60)!r}")
    finish_reason = FINISHES.get(name, "failed")
    return finish_reason, f"finish_reason {excerpt(reason, 60)!r}" if finish_reason in (
        "filtered",
        "failed",
    ) else ""


def _split(text: str) -> tuple[str, str]:
    """(thoughts, answer) of a text whose thoughts the server did not take out."""
    before, closed, after = text.partition("</think>")
    if closed:
        return before.replace("<think>", "").strip(), after
    return (
        (text.replace("<think>", "").strip(), "")
        if text.lstrip().startswith("<think>")
        else ("", text)
    )


def option_logprobs(
    body: Body, request: LoglikelihoodRequest, *, logprobs: bool = True
) -> OptionLogprobs:
    """The answer to a :class:`LoglikelihoodRequest` call, from the log-probabilities of the first token or from the votes of samples.

    Only the beginning of an answer is looked at, so one that was cut or has no finish reason is as good as another.

    Raises:
        Malformed: if log-probabilities were asked for and are missing.
        BrokenOff: if the server did not finish the answer.
    """
    found: list[_ChatChoice | _TextChoice] = [*body.choices]
    ends: list[tuple[FinishReason, str]] = [
        _known(c.finish_reason) if c.finish_reason else ("stop", "") for c in found
    ]
    usable = [
        c
        for c, (finish_reason, _) in zip(found, ends, strict=True)
        if finish_reason in ("stop", "length")
    ]
    tokens_in = _tokens(body)[0]
    if not usable:
        answer = failed(request, ends[0][1], ends[0][0])
        assert isinstance(answer, OptionLogprobs)
        return replace(answer, tokens_in=tokens_in)
    if not logprobs:
        return OptionLogprobs(
            votes(request.options, [c.said or "" for c in usable]), tokens_in, votes=len(usable)
        )
    tokens = usable[0].first_token
    if tokens is None:
        raise MalformedResponse("choices.0: no log-probabilities")
    return OptionLogprobs(weights(request.options, tokens), tokens_in)


def weights(options: Sequence[str], tokens: Mapping[str, float]) -> tuple[float, ...]:
    """Log-probability of each option, summed over the first tokens that begin it and no other option.

    An option that none of the listed tokens begins is as improbable as can be; where that is true of all, nothing can be
    read, and all are NaN.
    """
    totals = [0.0] * len(options)
    for token, logprob in tokens.items():
        start = token.replace("Ġ", " ").replace("▁", " ").strip().lstrip(VERDICT_PREFIXES)
        begun = [
            i
            for i, option in enumerate(options)
            if start and (option.startswith(start) or _begins(start, option))
        ]
        if len(begun) == 1:
            totals[begun[0]] += math.exp(min(logprob, 0.0))
    if not any(totals):
        return (math.nan,) * len(options)
    return tuple(math.log(total) if total else -math.inf for total in totals)


def votes(options: Sequence[str], texts: Sequence[str]) -> tuple[float, ...]:
    """The logarithm of each option's share of the texts that begin with one of the options; NaN where none does."""
    # the longest option first: one may begin another
    order = sorted(range(len(options)), key=lambda i: -len(options[i]))
    counts = [0] * len(options)
    for text in texts:
        start = text.strip().lstrip(VERDICT_PREFIXES)
        for i in order:
            if _begins(start, options[i]):
                counts[i] += 1
                break
    total = sum(counts)
    return tuple(
        (math.log(count / total) if count else -math.inf) if total else math.nan for count in counts
    )


def _begins(text: str, option: str) -> bool:
    """Whether a text begins with an option as a whole word: "A." does, "And" does not."""
    return text.startswith(option) and not text[len(option) : len(option) + 1].isalnum()


def _tokens(body: Body) -> tuple[int, int]:
    return (body.usage.prompt_tokens, body.usage.completion_tokens) if body.usage else (0, 0)
