"""From messages to the exact text a model reads, by the model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from cai import templates
from cai.errors import InputError, Problem
from cai.records import Message

TRANSCRIPT_STOP = "\n\nHuman:"


class ChatFormat:
    """Renders conversations for one tokenizer.

    ``style`` is ``chat`` (the tokenizer's template), ``transcript`` (the paper's "Human: / Assistant:" text, for base
    models) or ``plain`` (the bare texts, for models that continue them); by default ``chat`` where there is a template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, style: str = "") -> None:
        self.tokenizer = tokenizer
        self.style = style or ("chat" if tokenizer.chat_template else "transcript")
        self.stop = (TRANSCRIPT_STOP,) if self.style == "transcript" else ()

    def prompt(self, messages: Sequence[Message]) -> str:
        """The text after which the model's next answer begins.

        Raises:
            InputError: if the model's template refuses the conversation, with what it said.
        """
        if self.style == "plain":
            return "".join(m.content for m in messages)
        turns = [m.model_dump() for m in messages]
        if self.style == "transcript":
            return templates.render("transcript", messages=turns) + "\n\nAssistant:"
        return self._apply(turns, add_generation_prompt=True)

    def answered(self, messages: Sequence[Message], answer: str) -> tuple[str, str]:
        """The prompt, and the text that the answer adds to it with its end of turn."""
        prompt = self.prompt(messages)
        if self.style == "plain":
            return prompt, answer  # a continuation has no end of its own
        if self.style == "transcript":
            return prompt, f" {answer.strip()}" + (self.tokenizer.eos_token or "")
        whole = self._apply([*(m.model_dump() for m in messages), {"role": "assistant", "content": answer}])
        if whole.startswith(prompt):
            return prompt, whole[len(prompt) :]
        # a template that writes past answers otherwise than new ones (it drops reasoning, say)
        return prompt, answer + (self.tokenizer.eos_token or "")

    def option(self, messages: Sequence[Message], option: str) -> tuple[str, str]:
        """The prompt, and the option as the model would begin its answer with it (its leading space, if it has one)."""
        prompt, added = self.answered(messages, option)
        end = added.find(option) + len(option)
        return prompt, added[:end] if end >= len(option) else option

    def ids(self, text: str) -> list[int]:
        """Token ids of a rendered text; a template writes its own special tokens, a transcript gets the tokenizer's."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=self.style != "chat").input_ids
        if self.style != "chat" and ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]
        return ids

    def _apply(self, turns: list[dict[str, Any]], add_generation_prompt: bool = False) -> str:
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt))
        except TemplateError as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise InputError(
                [
                    Problem(
                        "chat template",
                        f"{self.tokenizer.name_or_path} refuses the turns {roles}: {error}; choose another model or style: transcript",
                    )
                ]
            ) from None
