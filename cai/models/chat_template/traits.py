"""What a tokenizer's chat template does to a conversation, found by rendering small ones.

Templates differ. Some refuse a system turn, or drop it silently; some want the content of a turn as
a list of parts, and drop a plain text; some require the roles to alternate; some never open the
answer that they are asked for; some let the model reason first. Conversations are adapted to the
template, and ``notes`` tells the user how.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from transformers import PreTrainedTokenizerBase

from cai.models.chat_template.render import Renderer, Turn
from cai.models.reasoning import template_marks

SYSTEM_TEXT, USER_TEXT, ANSWER_TEXT, LATER_TEXT = "zqsystem", "zqasked", "zqanswered", "zqlater"
"""Words that no template contains, so that they can be found again in what it renders."""
PROBES = (SYSTEM_TEXT, USER_TEXT, ANSWER_TEXT, LATER_TEXT)
LINES = 'zqfirst\n\n  zqsecond "zqthird"'
"""A text whose white space and quotes can be compared with what a template makes of them."""
_BRACKETED = re.compile(r"[<\[{|#]\S*\w\S*[>\]}|#]")
_WORD = re.compile(r"\w")

SystemTurns = Literal["kept", "refused", "dropped"]


@dataclass(frozen=True)
class TemplateTraits:
    """What a chat template does.

    Attributes:
        system: Whether system turns are kept, refused or silently dropped.
        lost: Roles whose text does not reach the model, whatever form it is given.
        as_parts: Whether the content of a turn is given as a list of parts.
        alternates: Whether two turns of one role in a row are refused.
        opening: Text to add after a prompt, where the template does not open the answer itself.
        header: What the model writes between its reasoning and its answer, where the template
            leaves it to the model; empty in most templates.
        rewrites: Whether the template changes white space inside texts.
        reasoning_tags: The tags around reasoning, for a model that reasons before it answers.
        can_disable_reasoning: Whether the template has a switch that turns reasoning off.
        markers: Marks of turns that are plain text rather than special tokens, such as ``[INST]``.
    """

    system: SystemTurns
    lost: tuple[str, ...]
    as_parts: bool
    alternates: bool
    opening: str
    header: str
    rewrites: bool
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
        if self.as_parts:
            lines.append("the chat template drops plain texts: they are given as lists of parts")
        if self.opening:
            lines.append("the chat template does not open the answer: its opening is added")
        if self.header:
            lines.append(f"answers begin with {self.header}, unless the model may reason first")
        if self.rewrites:
            lines.append("the chat template changes line breaks inside texts")
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


SYSTEM: Turn = {"role": "system", "content": SYSTEM_TEXT}
USER: Turn = {"role": "user", "content": USER_TEXT}
ANSWER: Turn = {"role": "assistant", "content": ANSWER_TEXT}
LATER: Turn = {"role": "user", "content": LATER_TEXT}


def probe_template(tokenizer: PreTrainedTokenizerBase, render: Renderer) -> TemplateTraits:
    """Find out what a tokenizer's chat template does by rendering small conversations.

    Args:
        tokenizer: The tokenizer.
        render: Its template; ``as_parts`` is set where the template wants lists of parts.
    """
    lost = _lost_roles(render)
    if lost:
        render.as_parts = True
        render.as_parts = render.attempt([USER]) is not None and not _lost_roles(render)
        lost = () if render.as_parts else lost
    prompt = render.attempt([USER]) or ""
    opened_prompt = render.attempt([USER], open_answer=True) or ""
    answered = render.attempt([USER, ANSWER]) or ""
    talk = render.attempt([USER, ANSWER, LATER]) or ""
    reasoning_tags = next((tags for tags in template_marks() if tags[1] in render.source), None)
    markers = _plain_text_markers(tokenizer, [talk, opened_prompt])
    opening = _missing_opening(prompt, opened_prompt, answered)
    header = "" if opening or reasoning_tags else _header(opened_prompt, answered)
    return TemplateTraits(
        system=_system_turns(render.attempt([SYSTEM, USER])),
        lost=lost,
        as_parts=render.as_parts,
        alternates=render.attempt([USER, LATER]) is None,
        opening=opening,
        header=header,
        rewrites=LINES not in (render.attempt([USER | {"content": LINES}]) or ""),
        reasoning_tags=reasoning_tags,
        can_disable_reasoning="enable_thinking" in render.source,
        # reasoning tags are markers too: templates cut past turns at them
        markers=(*markers, *(reasoning_tags or ())),
    )


def _lost_roles(render: Renderer) -> tuple[str, ...]:
    """Name the roles whose text a conversation of three turns loses.

    A template that takes single questions only loses nothing; it refuses the rest aloud.
    """
    question = render.attempt([USER], open_answer=True)
    talk = render.attempt([USER, ANSWER, LATER], open_answer=True)
    lost_user = USER_TEXT not in (question or USER_TEXT)
    if talk is None:
        return ("user",) if lost_user else ()
    lost_user = lost_user or USER_TEXT not in talk or LATER_TEXT not in talk
    return (*(["user"] if lost_user else []), *(["assistant"] if ANSWER_TEXT not in talk else []))


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


def _header(opened_prompt: str, answered: str) -> str:
    """Find what a model is to write between the opening that it is given and its answer."""
    before_answer = answered.partition(USER_TEXT)[2].partition(ANSWER_TEXT)[0]
    after_question = opened_prompt.partition(USER_TEXT)[2]
    is_longer = after_question.strip() and before_answer.startswith(after_question)
    header = before_answer[len(after_question) :] if is_longer else ""
    return header if header.strip() else ""


def _plain_text_markers(
    tokenizer: PreTrainedTokenizerBase, rendered: Sequence[str]
) -> tuple[str, ...]:
    """Find marks of turns that are not tokens, such as ``[INST]`` or ``### User:``."""
    tokens = [token.content for token in tokenizer.added_tokens_decoder.values()]
    known = sorted((t for t in tokens if t.strip()), key=len, reverse=True)
    bracketed = [
        marker
        for pieces in _between(rendered, known)
        for piece in pieces
        for marker in _BRACKETED.findall(piece)
    ]
    named = [line for text in rendered[:1] for line in _role_lines(text, known)]
    return tuple(dict.fromkeys([*bracketed, *named]))


def _between(rendered: Sequence[str], known: Sequence[str]) -> list[list[str]]:
    """The pieces of each rendered text that are neither a probe nor a token."""
    cut = re.compile("|".join(map(re.escape, [*PROBES, *known])))
    return [cut.split(text) for text in rendered]


def _role_lines(talk: str, known: Sequence[str]) -> list[str]:
    """The words that open a turn where no token does: ``User:`` of "... User: Hello".

    A turn that a token opens needs none of this, since the token itself is kept out of texts.
    """
    lines = []
    for before, after in pairwise([USER_TEXT, ANSWER_TEXT, LATER_TEXT]):
        opening = talk.partition(before)[2].partition(after)[0]
        if not any(token in opening for token in known):
            line = opening.strip().rpartition("\n")[2].strip()
            lines += [line] if _WORD.search(line) else []
    return lines
