"""The bodies that an OpenAI-compatible server sends, validated strictly."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

Dialect = Literal["chat", "transcript", "plain"]
"""How a conversation is sent to a server.

- ``chat``: as messages, to ``/chat/completions``; the server renders them.
- ``transcript``: as a "Human: / Assistant:" text, to ``/completions``; for base models.
- ``plain``: as the bare texts, to ``/completions``.
"""
Continuation = Literal["none", "continue_final_message", "prefix", "last_turn"]
"""How a chat server is made to continue an answer that was begun.

- ``none``: it cannot; the options are asked for in words.
- ``continue_final_message``: the field of vLLM and SGLang.
- ``prefix``: the field of a message at DeepSeek and Mistral.
- ``last_turn``: by a last turn of the assistant alone, as llama.cpp and Anthropic have it.
"""
MAX_TOKEN_COUNT = 1_000_000_000
"""Larger token counts are not believed."""


class MalformedResponse(Exception):
    """A body that does not follow the protocol; the message says where."""


def _finite(value: object) -> object:
    """Return a log-probability; None for that of a token which cannot come."""
    return None if value == -math.inf else value


_Logprob = Annotated[FiniteFloat | None, BeforeValidator(_finite)]


class _TopLogprob(BaseModel):
    token: str
    logprob: _Logprob


class _Position(BaseModel):
    token: str = ""
    top_logprobs: list[_TopLogprob] | None = None


class _ChatLogprobs(BaseModel):
    content: list[_Position] | None = None


class _TextLogprobs(BaseModel):
    top_logprobs: list[dict[str, _Logprob]] | None = None


class _Message(BaseModel):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None  # older name of the field
    refusal: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _join_parts(cls, message: Any) -> Any:
        """Join an answer that comes as a list of parts; those with thoughts are its reasoning."""
        if not isinstance(message, dict) or not isinstance(message.get("content"), list):
            return message
        parts = [part if isinstance(part, dict) else {"text": part} for part in message["content"]]
        thoughts = [_part_text(part) for part in parts if _is_thought(part)]
        texts = [_part_text(part) for part in parts if not _is_thought(part)]
        joined: dict[str, Any] = {"reasoning": "".join(thoughts)} if thoughts else {}
        return {**message, **joined, "content": "".join(texts)}


def _is_thought(part: dict[str, Any]) -> bool:
    return part.get("type") in ("thinking", "reasoning", "redacted_thinking")


def _part_text(part: dict[str, Any]) -> str:
    for name in ("text", "thinking", "reasoning", "content"):
        value = part.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return "".join(_part_text(item) for item in value if isinstance(item, dict))
    return ""


def _or_empty(message: object) -> object:
    """Return the message of a choice; an empty one where there is none, as if it is filtered."""
    return {} if message is None else message


class ChatChoice(BaseModel):
    """One of the answers in a :class:`ChatBody`."""

    message: Annotated[_Message, BeforeValidator(_or_empty)] = _Message()
    finish_reason: str | None = None
    logprobs: _ChatLogprobs | None = None

    @property
    def content(self) -> str | None:
        """The text of the answer."""
        return self.message.content

    @property
    def refusal(self) -> str:
        """What the model wrote in place of an answer; empty if it answered."""
        return "" if self.message.content else self.message.refusal or ""

    @property
    def reasoning(self) -> str:
        """The reasoning, if the server separated it from the answer."""
        return self.message.reasoning or self.message.reasoning_content or ""

    @property
    def first_token(self) -> dict[str, float] | None:
        """Log-probabilities of the likeliest first tokens; None if the server sent none."""
        return self._top_logprobs(0)

    def token_of(self, answer: str) -> dict[str, float] | None:
        """Return log-probabilities of the likeliest tokens at the beginning of an answer.

        Args:
            answer: The end of the text, which the model wrote after its reasoning.

        Returns:
            The log-probabilities; None if the server sent none for the place.
        """
        positions = (self.logprobs and self.logprobs.content) or []
        begin, end = "".join(p.token for p in positions).rfind(answer), 0
        for number, position in enumerate(positions if begin >= 0 else []):
            end += len(position.token)
            if end > begin:
                return self._top_logprobs(number)
        return None

    def _top_logprobs(self, position: int) -> dict[str, float] | None:
        if self.logprobs is None or not self.logprobs.content:
            return None
        tops = self.logprobs.content[position].top_logprobs or []
        return {top.token: top.logprob for top in tops if top.logprob is not None} or None


class TextChoice(BaseModel):
    """One of the answers in a :class:`TextBody`."""

    text: str | None = None
    finish_reason: str | None = None
    logprobs: _TextLogprobs | None = None

    @property
    def content(self) -> str | None:
        """The text of the answer."""
        return self.text

    @property
    def refusal(self) -> str:
        """Always empty: this endpoint does not separate refusals."""
        return ""

    @property
    def reasoning(self) -> str:
        """Always empty: this endpoint does not separate reasoning."""
        return ""

    @property
    def first_token(self) -> dict[str, float] | None:
        """Log-probabilities of the likeliest first tokens; None if the server sent none."""
        if self.logprobs is None or not self.logprobs.top_logprobs:
            return None
        tops = self.logprobs.top_logprobs[0].items()
        return {token: logprob for token, logprob in tops if logprob is not None} or None


def _token_count(value: object) -> int:
    """Return a number of tokens; 0 if the server sent something that cannot be one."""
    return value if isinstance(value, int) and 0 <= value <= MAX_TOKEN_COUNT else 0


_TokenCount = Annotated[int, BeforeValidator(_token_count)]


class _Usage(BaseModel):
    prompt_tokens: _TokenCount = 0
    completion_tokens: _TokenCount = 0


def _mapping(value: object) -> object:
    """Return a mapping as it is; None for anything else, which says nothing."""
    return value if isinstance(value, dict) else None


def _name(value: object) -> str:
    return value if isinstance(value, str) else ""


class _Body(BaseModel):
    model: Annotated[str, BeforeValidator(_name)] = ""
    usage: Annotated[_Usage | None, BeforeValidator(_mapping)] = None

    @property
    def tokens(self) -> tuple[int, int]:
        """Number of prompt tokens and of generated tokens; 0 if the server sent none."""
        if self.usage is None:
            return 0, 0
        return self.usage.prompt_tokens, self.usage.completion_tokens

    def usage_with(self, other: _Body) -> _Usage:
        """Return the tokens of this response and of another one."""
        tokens_in, tokens_out = map(sum, zip(self.tokens, other.tokens, strict=True))
        return _Usage(prompt_tokens=tokens_in, completion_tokens=tokens_out)


class ChatBody(_Body):
    """A response of ``/chat/completions``."""

    choices: list[ChatChoice] = Field(min_length=1)

    def joined(self, other: Body) -> ChatBody:
        """Return this response with the answers and the tokens of another one."""
        assert isinstance(other, ChatBody)
        choices = [*self.choices, *other.choices]
        return self.model_copy(update={"choices": choices, "usage": self.usage_with(other)})


class TextBody(_Body):
    """A response of ``/completions``."""

    choices: list[TextChoice] = Field(min_length=1)

    def joined(self, other: Body) -> TextBody:
        """Return this response with the answers and the tokens of another one."""
        assert isinstance(other, TextBody)
        choices = [*self.choices, *other.choices]
        return self.model_copy(update={"choices": choices, "usage": self.usage_with(other)})


Body = ChatBody | TextBody


def parse_body(data: object, dialect: Dialect) -> Body:
    """Validate a decoded JSON body.

    Args:
        data: What ``json.loads`` returned.
        dialect: How the request was sent.

    Returns:
        The body.

    Raises:
        MalformedResponse: If there are no choices, a field has another type, or a log-probability
            is not a finite number.
    """
    kind = ChatBody if dialect == "chat" else TextBody
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise MalformedResponse(f"{place}: {first['msg']}") from None
