"""What a tokenizer's chat template does to a conversation, found out by rendering a few.

Templates differ: some refuse a system turn, or drop it without a word; some want speakers to alternate; some print today's
date; some never open the answer they are asked for; some let the model think aloud first. A conversation is brought into
the form its template takes, and ``notes`` tells the user what is done.
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
"""The day every template is told it is: what a model reads must not depend on when it is asked."""
THINKING = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"))
"""Tags around what a model thinks before it answers."""
_SYSTEM, _ASKED, ANSWERED = "zqsystem", "zqasked", "zqanswered"

Turn = dict[str, Any]


@dataclass(frozen=True)
class TemplateTraits:
    """What a chat template does.

    ``system``: a system turn is ``kept``, ``refused`` or ``dropped``. ``alternates``: two turns of one speaker in a row are
    refused. ``opening``: what has to be added after a conversation so that the answer begins, where the template does not add
    it when asked to. ``enable_thinking``: the tags around thoughts. ``switch``: whether the template can be told not to let the
    model think. ``markers``: how turns are marked where that is plain text, not a special token.
    """

    source: str
    system: Literal["kept", "refused", "dropped"]
    alternates: bool
    opening: str
    enable_thinking: tuple[str, str] | None
    switch: bool
    markers: tuple[str, ...]

    @property
    def notes(self) -> list[str]:
        """One line per thing that is done for this template."""
        lines = []
        if self.system != "kept":
            verb = {"refused": "refuses", "dropped": "drops"}[self.system]
            lines.append(
                f"the chat template {verb} system turns: their text goes before the first user turn"
            )
        if self.opening:
            lines.append(
                "the chat template does not open the answer when asked to: its opening is added"
            )
        return lines

    def adapt(self, turns: Sequence[Turn]) -> list[Turn]:
        """The same conversation in a form that the template takes."""
        fitted = list(turns)
        if self.system != "kept":
            spoken = [turn for turn in fitted if turn["role"] != "system"]
            system_text = "\n\n".join(
                turn["content"] for turn in fitted if turn["role"] == "system"
            )
            if system_text and spoken and spoken[0]["role"] == "user":
                spoken[0] = spoken[0] | {"content": f"{system_text}\n\n{spoken[0]['content']}"}
                fitted = spoken
        if self.alternates:
            joined: list[Turn] = []
            for turn in fitted:
                if joined and joined[-1]["role"] == turn["role"]:
                    joined[-1] = joined[-1] | {
                        "content": f"{joined[-1]['content']}\n\n{turn['content']}"
                    }
                else:
                    joined.append(turn)
            fitted = joined
        return fitted


def probe_template(tokenizer: PreTrainedTokenizerBase) -> TemplateTraits:
    """Find out what the tokenizer's chat template does."""
    source = dated(_default(tokenizer.chat_template))

    def render(*turns: tuple[str, str], opened: bool = False) -> str | None:
        listed = [{"role": role, "content": content} for role, content in turns]
        try:
            return str(
                tokenizer.apply_chat_template(
                    listed, chat_template=source, tokenize=False, add_generation_prompt=opened
                )
            )
        except TemplateError:
            return None

    asked, answered = ("user", _ASKED), ("assistant", ANSWERED)
    with_system = render(("system", _SYSTEM), asked)
    system: Literal["kept", "refused", "dropped"] = (
        "refused" if with_system is None else "kept" if _SYSTEM in with_system else "dropped"
    )
    enable_thinking = next((tags for tags in THINKING if tags[1] in source), None)
    closed, opened, whole = (
        render(asked) or "",
        render(asked, opened=True) or "",
        render(asked, answered) or "",
    )
    between = whole.partition(_ASKED)[2].partition(ANSWERED)[0]
    after = opened.partition(_ASKED)[2]
    # a template that opens nothing although something stands between a question and its answer
    opening = between[len(after) :] if opened == closed and between.startswith(after) else ""
    return TemplateTraits(
        source,
        system,
        render(asked, asked) is None,
        opening,
        enable_thinking,
        "enable_thinking" in source,
        # tags of thoughts too: templates cut past turns at them
        (
            *_markers(tokenizer, [render(asked, answered, asked) or "", opened]),
            *(enable_thinking or ()),
        ),
    )


def dated(source: str) -> str:
    """The template with its clock stopped at :data:`TODAY`."""
    if "strftime_now" not in source:
        return source
    formats = dict.fromkeys(re.findall(r"strftime_now\(\s*(\"[^\"]*\"|'[^']*')", source))
    days = ", ".join(f"{quoted}: '{TODAY.strftime(quoted[1:-1])}'" for quoted in formats)
    return f"{{%- macro strftime_now(format) -%}}{{{{ {{{days}}}.get(format, '{TODAY}') }}}}{{%- endmacro -%}}{source}"


def _default(templates: str | dict[str, str] | None) -> str:
    """The template for plain chat, where a tokenizer has several."""
    if isinstance(templates, dict):
        return templates.get("default") or next(iter(templates.values()))
    return templates or ""


def _markers(tokenizer: PreTrainedTokenizerBase, rendered: Sequence[str]) -> tuple[str, ...]:
    """Turn marks such as ``[INST]`` that the tokenizer does not know as tokens of their own."""
    known = {token.content for token in tokenizer.added_tokens_decoder.values()}
    between = " ".join(rendered)
    for text in (_SYSTEM, _ASKED, ANSWERED, *sorted(known, key=len, reverse=True)):
        between = between.replace(text, " ")
    return tuple(dict.fromkeys(re.findall(r"[<\[{|#]\S*[>\]}|#]", between)))
