"""What a tokenizer's chat template does to a conversation, found by rendering small ones.

Templates differ. Some refuse a system turn, or drop it silently; some require the roles to
alternate; some print today's date; some never open the answer that they are asked for; some let the
model reason first. Conversations are adapted to the template, and ``notes`` tells the user how.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

TODAY = date(2025, 1, 1)
"""The date that templates see: what a model reads must not depend on when it is asked."""
REASONING_TAGS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
)
"""Tags that models put around their reasoning."""
SYSTEM_TEXT, USER_TEXT, ANSWER_TEXT = "zqsystem", "zqasked", "zqanswered"
"""Words that no template contains, so that they can be found again in what it renders."""

Turn = dict[str, Any]
SystemTurns = Literal["kept", "refused", "dropped"]


@dataclass(frozen=True)
class TemplateTraits:
    """What a chat template does.

    Attributes:
        source: The template, with the date fixed.
        system: Whether system turns are kept, refused or silently dropped.
        alternates: Whether two turns of one role in a row are refused.
        opening: Text to add after a prompt, where the template does not open the answer itself.
        reasoning_tags: The tags around reasoning, for a model that reasons before it answers.
        can_disable_reasoning: Whether the template has a switch that turns reasoning off.
        markers: Marks of turns that are plain text rather than special tokens, such as ``[INST]``.
    """

    source: str
    system: SystemTurns
    alternates: bool
    opening: str
    reasoning_tags: tuple[str, str] | None
    can_disable_reasoning: bool
    markers: tuple[str, ...]

    @property
    def notes(self) -> list[str]:
        """Describe, one line each, how conversations are adapted to this template."""
        lines = []
        if self.system != "kept":
            verb = {"refused": "refuses", "dropped": "drops"}[self.system]
            lines.append(
                f"the chat template {verb} system turns: their text goes before the first user turn"
            )
        if self.opening:
            lines.append("the chat template does not open the answer: its opening is added")
        return lines

    def adapt(self, turns: Sequence[Turn]) -> list[Turn]:
        """Bring a conversation into a form that the template accepts and keeps whole."""
        adapted = list(turns)
        if self.system != "kept":
            adapted = _move_system_text(adapted)
        if self.alternates:
            adapted = _merge_repeated_roles(adapted)
        return adapted


def _move_system_text(turns: list[Turn]) -> list[Turn]:
    """Put the text of system turns before the first user turn."""
    system_text = "\n\n".join(turn["content"] for turn in turns if turn["role"] == "system")
    others = [turn for turn in turns if turn["role"] != "system"]
    if not system_text or not others or others[0]["role"] != "user":
        return turns
    return [_with_content(others[0], f"{system_text}\n\n{others[0]['content']}"), *others[1:]]


def _merge_repeated_roles(turns: list[Turn]) -> list[Turn]:
    """Join turns of one role that follow each other."""
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1]["role"] == turn["role"]:
            merged[-1] = _with_content(merged[-1], f"{merged[-1]['content']}\n\n{turn['content']}")
        else:
            merged.append(turn)
    return merged


def _with_content(turn: Turn, content: str) -> Turn:
    return turn | {"content": content}


def probe_template(tokenizer: PreTrainedTokenizerBase) -> TemplateTraits:
    """Find out what the tokenizer's chat template does by rendering small conversations."""
    source = dated(_default(tokenizer.chat_template))

    def render(*turns: tuple[str, str], open_answer: bool = False) -> str | None:
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            rendered = tokenizer.apply_chat_template(
                messages, chat_template=source, tokenize=False, add_generation_prompt=open_answer
            )
        except TemplateError:
            return None
        return str(rendered)

    user, assistant = ("user", USER_TEXT), ("assistant", ANSWER_TEXT)
    prompt = render(user) or ""
    opened_prompt = render(user, open_answer=True) or ""
    answered = render(user, assistant) or ""
    reasoning_tags = next((tags for tags in REASONING_TAGS if tags[1] in source), None)
    markers = _plain_text_markers(tokenizer, [render(user, assistant, user) or "", opened_prompt])
    return TemplateTraits(
        source=source,
        system=_system_turns(render(("system", SYSTEM_TEXT), user)),
        alternates=render(user, user) is None,
        opening=_missing_opening(prompt, opened_prompt, answered),
        reasoning_tags=reasoning_tags,
        can_disable_reasoning="enable_thinking" in source,
        # reasoning tags are markers too: templates cut past turns at them
        markers=(*markers, *(reasoning_tags or ())),
    )


def _system_turns(rendered: str | None) -> SystemTurns:
    if rendered is None:
        return "refused"
    return "kept" if SYSTEM_TEXT in rendered else "dropped"


def _missing_opening(prompt: str, opened_prompt: str, answered: str) -> str:
    """Find the text between a question and its answer that the opened prompt lacks.

    Some templates ignore the request to open the answer, although they write something before one.
    """
    before_answer = answered.partition(USER_TEXT)[2].partition(ANSWER_TEXT)[0]
    after_question = opened_prompt.partition(USER_TEXT)[2]
    if opened_prompt == prompt and before_answer.startswith(after_question):
        return before_answer[len(after_question) :]
    return ""


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


def _plain_text_markers(
    tokenizer: PreTrainedTokenizerBase, rendered: Sequence[str]
) -> tuple[str, ...]:
    """Find marks of turns such as ``[INST]`` that are not tokens of the tokenizer."""
    known = {token.content for token in tokenizer.added_tokens_decoder.values()}
    between = " ".join(rendered)
    for text in (SYSTEM_TEXT, USER_TEXT, ANSWER_TEXT, *sorted(known, key=len, reverse=True)):
        between = between.replace(text, " ")
    return tuple(dict.fromkeys(re.findall(r"[<\[{|#]\S*[>\]}|#]", between)))
