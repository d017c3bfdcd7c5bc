"""The bodies that an OpenAI-compatible server sends, validated strictly."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, FiniteFloat, ValidationError

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


class _TopLogprob(BaseModel):
    token: str
    logprob: FiniteFloat


class _Position(BaseModel):
    top_logprobs: list[_TopLogprob] = []


class _ChatLogprobs(BaseModel):
    content: list[_Position] | None = None


class _TextLogprobs(BaseModel):
    top_logprobs: list[dict[str, FiniteFloat]] | None = None


class _Message(BaseModel):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None  # older name of the field


class ChatChoice(BaseModel):
    """One of the answers in a :class:`ChatBody`."""

    message: _Message
    finish_reason: str | None = None
    logprobs: _ChatLogprobs | None = None

    @property
    def content(self) -> str | None:
        """The text of the answer."""
        return self.message.content

    @property
    def reasoning(self) -> str:
        """The reasoning, if the server separated it from the answer."""
        return self.message.reasoning or self.message.reasoning_content or ""

    @property
    def first_token(self) -> dict[str, float] | None:
        """Log-probabilities of the likeliest first tokens; None if the server sent none."""
        if self.logprobs is None or not self.logprobs.content:
            return None
        return {top.token: top.logprob for top in self.logprobs.content[0].top_logprobs} or None


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
    def reasoning(self) -> str:
        """Always empty: this endpoint does not separate reasoning."""
        return ""

    @property
    def first_token(self) -> dict[str, float] | None:
        """Log-probabilities of the likeliest first tokens; None if the server sent none."""
        if self.logprobs is None or not self.logprobs.top_logprobs:
            return None
        return dict(self.logprobs.top_logprobs[0]) or None


def _token_count(value: object) -> int:
    """Return a number of tokens; 0 if the server sent something that cannot be one."""
    return value if isinstance(value, int) and 0 <= value <= MAX_TOKEN_COUNT else 0


_TokenCount = Annotated[int, BeforeValidator(_token_count)]


class _Usage(BaseModel):
    prompt_tokens: _TokenCount = 0
    completion_tokens: _TokenCount = 0


class _Body(BaseModel):
    model: str = ""
    usage: _Usage | None = None

    @property
    def tokens(self) -> tuple[int, int]:
        """Number of prompt tokens and of generated tokens; 0 if the server sent none."""
        if self.usage is None:
            return 0, 0
        return self.usage.prompt_tokens, self.usage.completion_tokens


class ChatBody(_Body):
    """A response of ``/chat/completions``."""

    choices: list[ChatChoice] = Field(min_length=1)


class TextBody(_Body):
    """A response of ``/completions``."""

    choices: list[TextChoice] = Field(min_length=1)


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
