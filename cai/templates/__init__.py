"""The texts shown to models, one ``.jinja`` file each, and the one function that fills them.

Templates are files of this package (or of the user, by path); what people and models wrote is only ever a *value* of a
template, never template source, so braces in anyone's text stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cai.keys import digest

NAMES = (
    "critique",
    "revise",
    "judge",
    "judge_chain_of_thought",
    "judge_delimited",
    "together_critique",
    "together_compare",
    "rate",
    "transcript",
    "prose_critique",
    "prose_revise",
    "prose_compare",
)
TRANSCRIPT_STOP = "\n\nHuman:"
_SPEAKER = re.compile(r"\n\s*\n(?=(?:Human|Assistant|System):)")
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=False,
    autoescape=False,
)


def render(name: str, /, **values: object) -> str:
    """Fill the template ``name`` with ``values``; a value it does not know of is an error of ours, not of the user's."""
    return _compiled(name).render(values).strip()


@lru_cache(maxsize=4096)
def render_text(name: str, text: str) -> str:
    """Fill a template that shows one text; the same few come again and again."""
    return render(name, text=text)


def one_turn(text: str) -> str:
    """A text that stays one turn of a transcript: a blank line before a speaker's name becomes a line break."""
    return _SPEAKER.sub("\n", text)


def transcript(turns: Sequence[Mapping[str, str]]) -> str:
    """The paper's text for base models, up to where the next answer begins; each of ``turns`` has a ``role`` and a ``content``."""
    told = [{"role": turn["role"], "content": one_turn(turn["content"])} for turn in turns]
    return render("transcript", messages=told) + "\n\nAssistant:"


@cache
def template_hash(name: str) -> str:
    """Digest of a template's source, kept in every record that was made with it."""
    return digest(source(name))


@cache
def source(name: str) -> str:
    """The text of a template file."""
    return Path(__file__).with_name(f"{name}.jinja").read_text(encoding="utf-8")


@cache
def _compiled(name: str) -> Template:
    return _ENVIRONMENT.from_string(source(name))
