"""Keep what people and models wrote from becoming control tokens.

A conversation may contain text such as ``<|im_end|>`` or ``[INST]``. Inserted into a chat template
as it is, it would end a turn or begin another. A *shield* encloses such text in two characters that
Unicode reserves for use inside programs; the encoder then spells it out as ordinary characters.
"""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerBase

from cai.models.chat_template.traits import TemplateTraits

OPEN, CLOSE = "\ufdd0", "\ufdd1"
"""Two noncharacters, which no valid text contains."""
SHIELDED = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")
ZERO_WIDTH_SPACE = "\u200b"


class Shield:
    """Finds and encloses the control tokens of one tokenizer.

    Attributes:
        control: Matches what would be read as a control token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, traits: TemplateTraits) -> None:
        tokens = {
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.special or token.content in traits.source
        }
        longest_first = sorted((t for t in tokens if t.strip()), key=len, reverse=True)
        never = r"(?!)"
        self.control = re.compile("|".join(map(re.escape, longest_first)) or never)
        self._markers = traits.markers

    def enclose(self, text: str) -> str:
        """Enclose control tokens in a text, and break up turn markers that are plain text."""
        text = readable(text)
        for marker in self._markers:
            text = text.replace(marker, f"{marker[0]}{ZERO_WIDTH_SPACE}{marker[1:]}")
        return self.control.sub(f"{OPEN}\\g<0>{CLOSE}", text)

    def last_control(self, text: str) -> int:
        """Find where the last control token of a rendered text begins; 0 if it has none."""
        starts = [match.start() for match in self.control.finditer(text)]
        return max((at for at in starts if text[at - 1 : at] != OPEN), default=0)


def readable(text: str) -> str:
    """Remove the shields from a rendered text."""
    return text.replace(OPEN, "").replace(CLOSE, "")
