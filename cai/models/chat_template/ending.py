"""What ends an answer: the same for sampling, rollouts, training rows, scoring and export.

There are checkpoints in which only one of the generation config, the tokenizer and the chat
template is right, templates that end a turn only when another one follows, templates that write
something after the end, and templates whose end is plain text. So the end is found by rendering.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from cai.models.chat_template.render import Renderer
from cai.models.chat_template.shield import Shield
from cai.models.chat_template.traits import ANSWER, ANSWER_TEXT, LATER, LATER_TEXT, USER, USER_TEXT

MIN_CUT_MARK = 3
"""Characters of a stop string at the very end of a text that was cut off, to take it for one."""


@dataclass(frozen=True)
class Ending:
    """What ends an answer.

    Attributes:
        tokens: Ids of the tokens that end an answer; any of them.
        strings: Texts that end an answer and are no part of it; any of them.
        closing: What closes an answer in training: a token id, or a text where no token ends one.
        lead: Text that the template writes between an answer and ``closing``.
        after: Text that the template writes after an answer, to be left out of training rows.
    """

    tokens: frozenset[int]
    strings: tuple[str, ...] = ()
    closing: int | str | None = None
    lead: str = ""
    after: str = ""

    def cut(self, text: str, *, complete: bool = True) -> str:
        """Cut a text at its first stop string.

        Args:
            text: The text.
            complete: Whether its writer ended it. At the end of any other text a part of a stop
                string is left out, too.
        """
        starts = [text.find(string) for string in self.strings if string in text]
        if starts:
            return text[: min(starts)]
        if not complete:
            for string in self.strings:
                for length in range(len(string) - 1, MIN_CUT_MARK - 1, -1):
                    if text.endswith(string[:length]):
                        return text[:-length]
        return text


def find_ending(
    tokenizer: PreTrainedTokenizerBase, render: Renderer, shield: Shield, eos: Iterable[int]
) -> Ending:
    """Find what ends an answer under a chat template.

    Args:
        tokenizer: The tokenizer.
        render: Its chat template.
        shield: Knows the control tokens.
        eos: Ids of end tokens that are known from elsewhere, such as the generation config.
    """
    known = end_tokens(tokenizer, eos)
    after = _after_answer(render)
    following = _before_next_turn(render)
    if after is None:
        return Ending(known, closing=tokenizer.eos_token_id)
    # the template ends an answer by a token
    for text in (after, following):
        mark = shield.control.search(text)
        if mark is not None:
            token = token_id(tokenizer, mark.group())
            is_opening = text is following and mark.group() in (_opening(render) or "")
            if is_opening and token not in known and tokenizer.eos_token_id is not None:
                # a token that opens the next turn ends an answer as well, but is not taught
                return Ending(known | {token}, (), tokenizer.eos_token_id, after=after)
            return Ending(known | {token}, (), token, text[: mark.start()], after)
    # by a text that is no token
    if after.strip():
        return Ending(known, (after.strip(),), after.rstrip(), after=after)
    # not at all: the mark of the next turn ends it
    mark_of_turn = following.strip()
    if mark_of_turn and "\n" in following.partition(mark_of_turn)[0]:
        mark_of_turn = "\n" + mark_of_turn
    strings = (mark_of_turn,) if mark_of_turn else ()
    eos_id = tokenizer.eos_token_id
    return Ending(known, strings, mark_of_turn or None if eos_id is None else eos_id, after=after)


def end_tokens(tokenizer: PreTrainedTokenizerBase, eos: Iterable[int]) -> frozenset[int]:
    """Collect the end token of a tokenizer and those that are known from elsewhere."""
    own = tokenizer.eos_token_id
    return frozenset([*eos, *([] if own is None else [int(own)])])


def token_id(tokenizer: PreTrainedTokenizerBase, content: str) -> int:
    """Return the id of an added token."""
    added = tokenizer.added_tokens_decoder.items()
    return next(i for i, token in added if token.content == content)


def _after_answer(render: Renderer) -> str | None:
    """What the template writes after the last answer; None if it takes no answers."""
    text = render.attempt([USER, ANSWER])
    if text is None or ANSWER_TEXT not in text:
        return None
    return text.rpartition(ANSWER_TEXT)[2]


def _before_next_turn(render: Renderer) -> str:
    """What the template writes between an answer and the next question."""
    text = render.attempt([USER, ANSWER, LATER])
    if text is None or LATER_TEXT not in text:
        return ""
    return text.rpartition(ANSWER_TEXT)[2].partition(LATER_TEXT)[0]


def _opening(render: Renderer) -> str | None:
    """What the template writes before the first question."""
    text = render.attempt([USER])
    return None if text is None else text.partition(USER_TEXT)[0]
