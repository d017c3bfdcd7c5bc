"""The texts shown to models, one ``.jinja`` file each, and the functions that fill them.

The templates of a constitution's project win over the shipped ones: a file
``templates/judge.jinja`` beside its folder ``principles/`` replaces ``judge``.

Example:
    >>> from cai.templates import DEFAULT
    >>> print(DEFAULT.render("revise", text="Leave out the insults."))
    Leave out the insults.
    Reply with the rewritten answer only.
"""

from cai.templates.answer_alone import answer_alone
from cai.templates.plain_text import TRANSCRIPT_STOPS, one_turn, transcript
from cai.templates.prompts import (
    DEFAULT,
    NAMES,
    REFERENCE,
    Templates,
    TemplateSet,
    combined_hash,
    template_path,
    template_set,
)

__all__ = [
    "DEFAULT",
    "NAMES",
    "REFERENCE",
    "TRANSCRIPT_STOPS",
    "TemplateSet",
    "Templates",
    "answer_alone",
    "combined_hash",
    "one_turn",
    "template_path",
    "template_set",
    "transcript",
]
