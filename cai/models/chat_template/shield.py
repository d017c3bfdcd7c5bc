"""Keep what people and models wrote from becoming control tokens.

A conversation may contain text such as ``<|im_end|>`` or ``[INST]``. Inserted into a chat template
as it is, it would end a turn or begin another. A *shield* encloses such text in two characters that
Unicode reserves for use inside programs; the encoder then spells it out as ordinary characters.
Marks that are no tokens are broken up by a character that the tokenizer can read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

OPEN, CLOSE = "\ufdd0", "\ufdd1"
"""Two noncharacters, which no valid text contains."""
SHIELDED = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")
BREAKS = ("\u200b", "\u2060", " ", "-", ".")
"""What breaks a mark up, the least visible first; some tokenizers do not know the first ones."""


class Shield:
    """Finds and encloses the control tokens of one tokenizer.

    Args:
        tokenizer: The tokenizer.
        source: Its chat template.
        markers: Marks of turns that are no tokens.

    Attributes:
        control: Matches what would be read as a control token.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, source: str, markers: Sequence[str]
    ) -> None:
        tokens = {
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.special or token.content in source
        }
        longest_first = sorted((t for t in tokens if t.strip()), key=len, reverse=True)
        never = r"(?!)"
        self.control = re.compile("|".join(map(re.escape, longest_first)) or never)
        self._breaks = [
            (_pattern(marker), r"\g<indent>" + _broken(tokenizer, marker).replace("\\", r"\\"))
            for marker in markers
        ]

    def enclose(self, text: str) -> str:
        """Enclose control tokens in a text, and break up turn markers that are plain text."""
        text = readable(text)
        for marker, broken in self._breaks:
            text = marker.sub(broken, text)
        return self.control.sub(f"{OPEN}\\g<0>{CLOSE}", text)

    def last_control(self, text: str) -> int:
        """Find where the last control token of a rendered text begins; 0 if it has none."""
        starts = [match.start() for match in self.control.finditer(text)]
        return max((at for at in starts if text[at - 1 : at] != OPEN), default=0)


def _pattern(marker: str) -> re.Pattern[str]:
    """Match a mark; one that is made of words, such as ``User:``, only where a line begins."""
    begins = r"^[^\S\n]*" if marker[0].isalnum() else ""
    return re.compile(f"(?P<indent>{begins}){re.escape(marker)}", re.MULTILINE)


def _broken(tokenizer: PreTrainedTokenizerBase, marker: str) -> str:
    """Break a mark up so that the tokenizer reads something else."""

    def ids(text: str) -> list[int]:
        encoded: list[int] = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return encoded

    broken = [f"{marker[0]}{character}{marker[1:]}" for character in BREAKS]
    whole = ids(marker)
    return next((text for text in broken if ids(text) != whole), broken[0])


def readable(text: str) -> str:
    """Remove the shields from a rendered text."""
    return text.replace(OPEN, "").replace(CLOSE, "")
