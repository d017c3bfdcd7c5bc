"""Apply a tokenizer's chat template to a conversation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from cai.templates.bounded import bounded

TODAY = date(2025, 1, 1)
"""The date that templates see: what a model reads must not depend on when it is asked."""
Turn = dict[str, Any]
FAILURES = (
    TemplateError,
    TypeError,
    ValueError,
    KeyError,
    AttributeError,
    IndexError,
    ArithmeticError,
    RecursionError,
)
"""What templates raise on a conversation that they do not take; few of them raise on purpose."""
EXPECTED: tuple[dict[str, Any], ...] = (
    {},
    {"bos_token": ""},
    {"tools": []},
    {"tools": [], "documents": []},
    {"tools": [], "documents": [], "bos_token": ""},
)
"""Variables that some templates read without asking whether they were given."""


class Refused(Exception):
    """A chat template did not take a conversation; the message says why."""


class Renderer:
    """Renders conversations by a tokenizer's chat template, with the date fixed at :data:`TODAY`.

    Args:
        tokenizer: The tokenizer whose template is used.

    Attributes:
        source: The template.
        as_parts: Whether the template wants the content of a turn as a list of parts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.source = dated(_default(tokenizer.chat_template))
        self.as_parts = False
        self._tokenizer = tokenizer
        self._expected: dict[str, Any] | None = None
        has_bos = tokenizer.bos_token is not None
        self._tries = [tried for tried in EXPECTED if not (has_bos and "bos_token" in tried)]

    def __call__(
        self, turns: Sequence[Turn], *, open_answer: bool = False, **options: object
    ) -> str:
        """Render a conversation.

        Args:
            turns: The turns, each with a ``role`` and a ``content``.
            open_answer: Whether to ask the template for the opening of the next answer.
            options: Further variables of the template.

        Raises:
            Refused: If the template does not take the conversation.
        """
        tries = self._tries if self._expected is None else (self._expected,)
        refusal: Exception | None = None
        for expected in tries:
            try:
                text = self._render(turns, open_answer, options | expected)
            except FAILURES as error:
                refusal = refusal or error
            else:
                self._expected = expected
                return text
        raise Refused(str(refusal) or type(refusal).__name__) from None

    def attempt(self, turns: Sequence[Turn], *, open_answer: bool = False) -> str | None:
        """Render a conversation; None if the template does not take it."""
        try:
            return self(turns, open_answer=open_answer)
        except Refused:
            return None

    def _render(
        self,
        turns: Sequence[Turn],
        open_answer: bool,  # noqa: FBT001
        options: dict[str, Any],
    ) -> str:
        if self.as_parts:
            turns = [
                turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in turns
            ]
        with bounded():
            rendered = self._tokenizer.apply_chat_template(
                list(turns),
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=open_answer,
                **options,
            )
        return str(rendered)


def dated(source: str) -> str:
    """Fix the date that a template prints at :data:`TODAY`."""
    if "strftime_now" not in source:
        return source
    formats = dict.fromkeys(re.findall(r"strftime_now\(\s*(\"[^\"]*\"|'[^']*')", source))
    days = ", ".join(f"{quoted}: '{TODAY.strftime(quoted[1:-1])}'" for quoted in formats)
    lookup = f"{{{{ {{{days}}}.get(format, '{TODAY}') }}}}"
    return f"{{%- macro strftime_now(format) -%}}{lookup}{{%- endmacro -%}}{source}"


def _default(templates: str | dict[str, str] | None) -> str:
    """Choose the template for plain chat, where a tokenizer has several."""
    if isinstance(templates, dict):
        return templates.get("default") or next(iter(templates.values()))
    return templates or ""
