"""From messages to the exact tokens a model reads, by the model's own chat template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from cai import templates
from cai.errors import InputError, Problem
from cai.models.chat_template.traits import ANSWERED, TemplateTraits, Turn, probe_template
from cai.records import Message

NEWLINE = "\n"
# characters that Unicode sets aside for use inside a program; they stand round what only looks like a control token
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_SHIELDED = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")


class ChatFormat:
    """Renders conversations for one tokenizer.

    ``chat_format`` is ``chat`` (the tokenizer's template), ``transcript`` (the paper's "Human: / Assistant:" text, for base
    models) or ``plain`` (the bare texts, for models that continue them); by default ``chat`` where there is a template.
    With ``enable_thinking`` a model that can think aloud before it answers may; otherwise its thoughts are closed before they begin.

    What people and models wrote never becomes a control token: in a rendered text such a token stands between two marks,
    and :meth:`ids` spells it out.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        chat_format: str = "",
        enable_thinking: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.chat_format = chat_format or ("chat" if tokenizer.chat_template else "transcript")
        self.stop = (templates.TRANSCRIPT_STOP,) if self.chat_format == "transcript" else ()
        self.enable_thinking = enable_thinking and self.tags is not None
        if self.chat_format == "chat":
            self._check()

    @cached_property
    def traits(self) -> TemplateTraits:
        """What the chat template does."""
        return probe_template(self.tokenizer)

    @property
    def tags(self) -> tuple[str, str] | None:
        """The tags around thoughts, for a model that may think aloud."""
        return self.traits.enable_thinking if self.chat_format == "chat" else None

    @cached_property
    def end_of_turn(self) -> int | None:
        """The token with which the chat template ends an answer; None where it ends none with a token."""
        if self.chat_format != "chat":
            return None
        asked, answered = (
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": ANSWERED},
        )
        # some templates end a turn only when another one follows
        for turns in ([asked, answered], [asked, answered, asked]):
            try:
                _, found, after = self._apply(turns).rpartition(ANSWERED)
            except InputError:  # a template that takes no answers
                return None
            if found and (token := self._control.search(after)):
                return next(
                    i
                    for i, known in self.tokenizer.added_tokens_decoder.items()
                    if known.content == token.group()
                )
        return None

    # -- texts ---------------------------------------------------------------------------------------------------------

    def prompt(self, messages: Sequence[Message]) -> str:
        """The text after which the model's next answer begins.

        Raises:
            InputError: if the model's template refuses the conversation, with what it said.
        """
        if self.chat_format == "plain":
            return "".join(m.content for m in messages)
        if self.chat_format == "transcript":
            return templates.transcript(_turns(messages))
        return self._opened(messages, self.enable_thinking)

    def answered(self, messages: Sequence[Message], answer: str) -> tuple[str, str]:
        """The prompt, and the text that the answer adds to it with its end of turn. Nothing is thought before it."""
        if self.chat_format == "plain":
            return self.prompt(messages), answer  # a continuation has no end of its own
        if self.chat_format == "transcript":
            return self.prompt(messages), f" {templates.one_turn(answer).strip()}"
        prompt = self._opened(messages, False)
        whole = self._apply([*_turns(messages), {"role": "assistant", "content": answer}])
        if whole.startswith(prompt):
            return prompt, whole[len(prompt) :]
        # a template that writes past answers otherwise than new ones: the answer, and what it writes after one
        after = self._apply(
            [*_turns(messages), {"role": "assistant", "content": ANSWERED}]
        ).rpartition(ANSWERED)[2]
        return prompt, self._shield(answer).strip() + (after or self.tokenizer.eos_token or "")

    def split_thoughts(self, text: str) -> tuple[str, str]:
        """What a model wrote as (its thoughts, its answer); thoughts that never ended leave no answer."""
        if self.tags is None:
            return "", text
        begin, end = self.tags
        reasoning, closed, answer = text.rpartition(end)
        if closed:
            return reasoning.replace(begin, "").strip(), answer
        if text.lstrip().startswith(begin) or (self.enable_thinking and self._opens_thoughts):
            return text.replace(begin, "").strip(), ""
        return "", text

    # -- tokens --------------------------------------------------------------------------------------------------------

    def ids(self, text: str) -> list[int]:
        """Token ids of a rendered text; a template writes its own special tokens, a transcript gets the tokenizer's."""
        if self.chat_format != "chat":
            ids: list[int] = self.tokenizer(
                text, add_special_tokens=True, split_special_tokens=True, verbose=False
            ).input_ids
            eos = self.tokenizer.eos_token_id
            return ids[:-1] if ids and ids[-1] == eos else ids
        pieces = _SHIELDED.split(text)
        ids = self._encode(readable(pieces[0]))
        for i, piece in enumerate(map(readable, pieces[1:]), start=1):
            # what only looks like a control token is spelt out: its first character apart from the rest
            for part in (piece[:1], piece[1:]) if i % 2 else (piece,):
                ids += self._encode_after(part)
        return ids

    def options(
        self, messages: Sequence[Message], options: Sequence[str]
    ) -> tuple[list[int], list[list[int]]]:
        """Token ids of the prompt, and those of each option, as an answer begins with it, that tell it from the others: its
        first if the first ones differ.

        Raises:
            InputError: if the tokenizer cannot tell two options apart.
        """
        prompt, added = self.answered(messages, options[0])
        lead = added[
            : max(0, added.find(options[0]))
        ]  # a space, where a style puts one before answers
        before, *found = self.continued(prompt, *(lead + option for option in options))
        if len(set(map(tuple, found))) < len(found):
            shown, name = " and ".join(map(repr, options)), self.tokenizer.name_or_path
            raise InputError(
                [
                    Problem(
                        "tokenizer",
                        f"{name} has the same tokens for {shown}, so no verdict can be read; choose another judge",
                    )
                ]
            )
        return before, [ids[:1] for ids in found] if len({ids[0] for ids in found}) == len(
            found
        ) else found

    def continued(self, text: str, *added: str) -> list[list[int]]:
        """Token ids of a text, and of each thing that is added to it: where tokens merge over the seam, the two are encoded apart."""
        before, end = self.ids(text), text[self._last_control(text) :]
        # no token reaches over a control token, so what stands before the last one need not be encoded again
        ending = self.ids(end) if len(end) < len(text) else before
        if before[len(before) - len(ending) :] != ending:
            end, ending = text, before
        found = [before]
        for more in added:
            whole = self.ids(end + more)
            merged = whole[: len(ending)] != ending or len(whole) == len(ending)
            found.append(self._encode_after(readable(more)) if merged else whole[len(ending) :])
        return found

    def _last_control(self, text: str) -> int:
        """Where the last control token of a rendered text begins; 0 if it has none."""
        if self.chat_format != "chat":
            return 0
        return max(
            (
                m.start()
                for m in self._control.finditer(text)
                if text[m.start() - 1 : m.start()] != _OPEN
            ),
            default=0,
        )

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _encode_after(self, text: str) -> list[int]:
        """A piece from the middle of a text, without the space that some tokenizers put at the start of one."""
        return self._encode(NEWLINE + text)[len(self._encode(NEWLINE)) :] if text else []

    # -- the template --------------------------------------------------------------------------------------------------

    def _opened(self, messages: Sequence[Message], enable_thinking: bool) -> str:
        """The conversation and the opening of the answer; where nothing may be thought, empty thoughts."""
        text = (
            self._apply(_turns(messages), opened=True, enable_thinking=enable_thinking)
            + self.traits.opening
        )
        tags = self.traits.enable_thinking
        if (
            enable_thinking
            or tags is None
            or (self.traits.switch and not text.rstrip().endswith(tags[0]))
        ):
            return text
        begun = text.rstrip().endswith(tags[0])
        return f"{text.rstrip()}\n\n{tags[1]}\n\n" if begun else f"{text}{tags[0]}\n\n{tags[1]}\n\n"

    @cached_property
    def _opens_thoughts(self) -> bool:
        """Whether a prompt ends inside the thoughts that the model is to go on with."""
        tags = self.traits.enable_thinking
        return tags is not None and self._apply(
            [{"role": "user", "content": "x"}], opened=True, enable_thinking=True
        ).rstrip().endswith(tags[0])

    def _apply(self, turns: list[Turn], opened: bool = False, enable_thinking: bool = False) -> str:
        shielded = [
            turn | {"content": self._shield(turn["content"])} for turn in self.traits.adapt(turns)
        ]
        options: dict[str, Any] = {"enable_thinking": enable_thinking} if self.traits.switch else {}
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    shielded,
                    chat_template=self.traits.source,
                    tokenize=False,
                    add_generation_prompt=opened,
                    **options,
                )
            )
        except TemplateError as error:
            roles = ", ".join(turn["role"] for turn in turns)
            name = self.tokenizer.name_or_path
            raise InputError(
                [
                    Problem(
                        "chat template",
                        f"{name} refuses the turns {roles}: {error}; choose another model or style: transcript",
                    )
                ]
            ) from None

    @cached_property
    def _control(self) -> re.Pattern[str]:
        """What looks like a control token or a mark of turns."""
        written = self.traits.source
        known = {
            t.content
            for t in self.tokenizer.added_tokens_decoder.values()
            if t.special or t.content in written
        }
        ordered = sorted((token for token in known if token.strip()), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")

    def _shield(self, text: str) -> str:
        """A text of other people in which control tokens stand between marks, and turn marks in plain text are broken up."""
        text = text.replace(_OPEN, "").replace(_CLOSE, "")
        for marker in self.traits.markers:
            text = text.replace(marker, f"{marker[0]}\u200b{marker[1:]}")
        return self._control.sub(f"{_OPEN}\\g<0>{_CLOSE}", text)

    def _check(self) -> None:
        """Raise where this tokenizer would read control tokens out of what people wrote."""
        control = {
            i
            for i, token in self.tokenizer.added_tokens_decoder.items()
            if self._control.fullmatch(token.content)
        }
        control.discard(
            self.tokenizer.unk_token_id
        )  # which any word may become that a tokenizer does not know

        def count(content: str) -> int:
            return sum(
                i in control
                for i in self.ids(self._apply([{"role": "user", "content": content}], opened=True))
            )

        eval_points = [self.tokenizer.added_tokens_decoder[i].content for i in sorted(control)]
        if count("x" + "x".join(eval_points) + "x") != count("x"):
            name = self.tokenizer.name_or_path
            raise InputError(
                [
                    Problem(
                        "tokenizer",
                        f"{name} reads control tokens out of what people write; choose style: transcript",
                    )
                ]
            )


def readable(text: str) -> str:
    """A rendered text without the marks, for people to read."""
    return text.replace(_OPEN, "").replace(_CLOSE, "")


def _turns(messages: Sequence[Message]) -> list[Turn]:
    return [m.model_dump() for m in messages]
