"""Turn messages into the exact tokens that a model reads, by the model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from cai import templates
from cai.errors import InputError, Problem
from cai.models.chat_template.shield import SHIELDED, Shield, readable
from cai.models.chat_template.traits import ANSWER_TEXT, TemplateTraits, Turn, probe_template
from cai.records import Message

NEWLINE = "\n"
USER_TURN: Turn = {"role": "user", "content": "x"}


class ChatFormat:
    """Renders and tokenizes conversations for one tokenizer.

    Text that people and models wrote never becomes a control token: in a rendered text it is
    shielded (see ``cai.models.chat_template.shield``), and :meth:`ids` spells it out.

    Args:
        tokenizer: The model's tokenizer.
        chat_format: ``chat`` (the tokenizer's template), ``transcript`` (the "Human: / Assistant:"
            text of the paper, for base models) or ``plain`` (the bare texts, for models that
            continue them). By default ``chat`` where there is a template, else ``transcript``.
        enable_thinking: Let a model that can reason before it answers do so. Otherwise its
            reasoning is closed before it begins.

    Raises:
        InputError: If the tokenizer would read control tokens out of what people write.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        chat_format: str | None = None,
        *,
        enable_thinking: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.chat_format = chat_format or ("chat" if tokenizer.chat_template else "transcript")
        self.stop = (templates.TRANSCRIPT_STOP,) if self.chat_format == "transcript" else ()
        self.enable_thinking = enable_thinking and self.reasoning_tags is not None
        if self.chat_format == "chat":
            self._check_shield()

    @cached_property
    def traits(self) -> TemplateTraits:
        """What the chat template does."""
        return probe_template(self.tokenizer)

    @cached_property
    def shield(self) -> Shield:
        """What keeps text from becoming control tokens."""
        return Shield(self.tokenizer, self.traits)

    @property
    def reasoning_tags(self) -> tuple[str, str] | None:
        """The tags around reasoning, for a model that reasons before it answers."""
        return self.traits.reasoning_tags if self.chat_format == "chat" else None

    @cached_property
    def end_of_turn(self) -> int | None:
        """The token with which the chat template ends an answer; None where it ends none."""
        if self.chat_format != "chat":
            return None
        answer = {"role": "assistant", "content": ANSWER_TEXT}
        # some templates end a turn only when another one follows
        for turns in ([USER_TURN, answer], [USER_TURN, answer, USER_TURN]):
            try:
                _, answer_text, after = self._apply(turns).rpartition(ANSWER_TEXT)
            except InputError:  # a template that takes no answers
                return None
            token = self.shield.control.search(after)
            if answer_text and token:
                return self._token_id(token.group())
        return None

    def _token_id(self, content: str) -> int:
        added = self.tokenizer.added_tokens_decoder.items()
        return next(i for i, token in added if token.content == content)

    # -- texts -------------------------------------------------------------------------------------

    def prompt(self, messages: Sequence[Message]) -> str:
        """Render a conversation up to where the model's next answer begins.

        Raises:
            InputError: If the model's template refuses the conversation, with the reason.
        """
        if self.chat_format == "plain":
            return "".join(m.content for m in messages)
        if self.chat_format == "transcript":
            return templates.transcript(_turns(messages))
        return self._opened(messages, enable_thinking=self.enable_thinking)

    def answered(self, messages: Sequence[Message], answer: str) -> tuple[str, str]:
        """Render a conversation and an answer to it.

        Returns:
            The prompt, and the text that the answer adds, with its end of turn. There is no
            reasoning before the answer.
        """
        if self.chat_format == "plain":
            return self.prompt(messages), answer  # a continuation has no end of its own
        if self.chat_format == "transcript":
            return self.prompt(messages), f" {templates.one_turn(answer).strip()}"
        turns = _turns(messages)
        prompt = self._opened(messages, enable_thinking=False)
        whole = self._apply([*turns, {"role": "assistant", "content": answer}])
        if whole.startswith(prompt):
            return prompt, whole[len(prompt) :]
        # the template renders past answers differently from new ones: take what it puts after one
        past = self._apply([*turns, {"role": "assistant", "content": ANSWER_TEXT}])
        end = past.rpartition(ANSWER_TEXT)[2] or self.tokenizer.eos_token or ""
        return prompt, self.shield.enclose(answer).strip() + end

    def split_reasoning(self, text: str) -> tuple[str, str]:
        """Split what a model wrote into its reasoning and its answer.

        Reasoning that never ended leaves an empty answer.
        """
        if self.reasoning_tags is None:
            return "", text
        begin, end = self.reasoning_tags
        reasoning, closed, answer = text.rpartition(end)
        if closed:
            return reasoning.replace(begin, "").strip(), answer
        is_open = text.lstrip().startswith(begin)
        if is_open or (self.enable_thinking and self._opens_reasoning):
            return text.replace(begin, "").strip(), ""
        return "", text

    # -- tokens ------------------------------------------------------------------------------------

    def ids(self, text: str) -> list[int]:
        """Tokenize a rendered text.

        A chat template writes its own special tokens; other formats get the tokenizer's.
        """
        if self.chat_format != "chat":
            ids: list[int] = self.tokenizer(
                text, add_special_tokens=True, split_special_tokens=True, verbose=False
            ).input_ids
            ends = bool(ids) and ids[-1] == self.tokenizer.eos_token_id
            return ids[:-1] if ends else ids
        # every second piece was shielded
        first, *pieces = map(readable, SHIELDED.split(text))
        ids = self._encode(first)
        for number, piece in enumerate(pieces, start=1):
            if number % 2:  # without its first character the rest is no control token
                ids += self._encode_after(piece[:1]) + self._encode_after(piece[1:])
            else:
                ids += self._encode_after(piece)
        return ids

    def options(
        self, messages: Sequence[Message], options: Sequence[str]
    ) -> tuple[list[int], list[list[int]]]:
        """Tokenize a prompt and the options that its answer may begin with.

        Returns:
            The prompt's token ids, and for each option the ids that tell it from the others: its
            first token where the first tokens differ.

        Raises:
            InputError: If the tokenizer cannot tell two options apart.
        """
        prompt, added = self.answered(messages, options[0])
        space = added[: max(0, added.find(options[0]))]  # some formats put one before an answer
        prompt_ids, *option_ids = self.continued(prompt, *(space + option for option in options))
        if len(set(map(tuple, option_ids))) < len(option_ids):
            shown, name = " and ".join(map(repr, options)), self.tokenizer.name_or_path
            reason = f"{name} has the same tokens for {shown}, so no verdict can be read"
            raise InputError([Problem("tokenizer", f"{reason}; choose another judge")])
        if len({ids[0] for ids in option_ids}) == len(option_ids):
            option_ids = [ids[:1] for ids in option_ids]
        return prompt_ids, option_ids

    def continued(self, text: str, *continuations: str) -> list[list[int]]:
        """Tokenize a text and what may follow it.

        Returns:
            The token ids of the text, then those of each continuation. Where tokens would merge
            over the seam, the two are tokenized apart.
        """
        text_ids = self.ids(text)
        # no token reaches over a control token, so what comes before the last one is not needed
        tail = text[self.shield.last_control(text) :] if self.chat_format == "chat" else text
        tail_ids = self.ids(tail) if len(tail) < len(text) else text_ids
        if text_ids[len(text_ids) - len(tail_ids) :] != tail_ids:
            tail, tail_ids = text, text_ids
        results = [text_ids]
        for continuation in continuations:
            whole = self.ids(tail + continuation)
            is_merged = whole[: len(tail_ids)] != tail_ids or len(whole) == len(tail_ids)
            if is_merged:
                results.append(self._encode_after(readable(continuation)))
            else:
                results.append(whole[len(tail_ids) :])
        return results

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _encode_after(self, text: str) -> list[int]:
        """Tokenize a piece from inside a text: some tokenizers add a space at the start of one."""
        return self._encode(NEWLINE + text)[len(self._encode(NEWLINE)) :] if text else []

    # -- the template ------------------------------------------------------------------------------

    def _opened(self, messages: Sequence[Message], *, enable_thinking: bool) -> str:
        """Render a prompt with the opening of the answer; closed reasoning where none is wanted."""
        rendered = self._apply(_turns(messages), open_answer=True, enable_thinking=enable_thinking)
        text = rendered + self.traits.opening
        tags = self.traits.reasoning_tags
        if enable_thinking or tags is None:
            return text
        begin, end = tags
        if text.rstrip().endswith(begin):
            return f"{text.rstrip()}\n\n{end}\n\n"
        if self.traits.can_disable_reasoning:
            return text
        return f"{text}{begin}\n\n{end}\n\n"

    @cached_property
    def _opens_reasoning(self) -> bool:
        """Whether the prompt ends inside the reasoning that the model is to continue."""
        tags = self.traits.reasoning_tags
        if tags is None:
            return False
        prompt = self._apply([USER_TURN], open_answer=True, enable_thinking=True)
        return prompt.rstrip().endswith(tags[0])

    def _apply(
        self, turns: list[Turn], *, open_answer: bool = False, enable_thinking: bool = False
    ) -> str:
        shielded = [
            turn | {"content": self.shield.enclose(turn["content"])}
            for turn in self.traits.adapt(turns)
        ]
        options: dict[str, Any] = {}
        if self.traits.can_disable_reasoning:
            options["enable_thinking"] = enable_thinking
        try:
            rendered = self.tokenizer.apply_chat_template(
                shielded,
                chat_template=self.traits.source,
                tokenize=False,
                add_generation_prompt=open_answer,
                **options,
            )
        except TemplateError as error:
            roles = ", ".join(turn["role"] for turn in turns)
            reason = f"{self.tokenizer.name_or_path} refuses the turns {roles}: {error}"
            advice = "choose another model or chat_format: transcript"
            raise InputError([Problem("chat template", f"{reason}; {advice}")]) from None
        return str(rendered)

    def _check_shield(self) -> None:
        """Refuse a tokenizer that reads control tokens out of what people write."""
        added = self.tokenizer.added_tokens_decoder
        control = {i for i, t in added.items() if self.shield.control.fullmatch(t.content)}
        control.discard(self.tokenizer.unk_token_id)  # any unknown word may become it

        def count(content: str) -> int:
            prompt = self._apply([{"role": "user", "content": content}], open_answer=True)
            return sum(i in control for i in self.ids(prompt))

        contents = [added[i].content for i in sorted(control)]
        if count("x" + "x".join(contents) + "x") != count("x"):
            name = self.tokenizer.name_or_path
            reason = f"{name} reads control tokens out of what people write"
            raise InputError([Problem("tokenizer", f"{reason}; choose chat_format: transcript")])


def _turns(messages: Sequence[Message]) -> list[Turn]:
    return [m.model_dump() for m in messages]
