"""A policy's tokens as texts, for reward sources that tokenize differently or read texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer
from cai.models.stopping import answer_text, stop_tokens
from cai.records import Prompt


class Detokenizer:
    """Turns token ids of known prompts, and of a policy's answers to them, into records and texts.

    Args:
        prompts: Every prompt that may occur.
        policy: Folder or hub id of the policy.
        chat_format: How conversations are written; empty: by the model's chat template.

    Attributes:
        tokenizer: The policy's tokenizer.
        stops: Ids of the tokens that end an answer.
    """

    def __init__(self, prompts: Sequence[Prompt], policy: str, chat_format: str = "") -> None:
        self.prompts = prompts
        self.chat_format = chat_format
        self.tokenizer = load_tokenizer(policy)
        self._chat = ChatFormat(self.tokenizer, chat_format)
        self.stops = stop_tokens(policy, self._chat)

    def __call__(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> list[tuple[Prompt, str]]:
        """Return the prompt and the text of the answer for each row of token ids."""
        return [
            (self._prompt_of_ids[tuple(prompt)], answer_text(self.tokenizer, answer, self.stops))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]

    def ended(self, answer: Sequence[int]) -> bool:
        """Return whether an answer ended with a stop token, and was not cut off."""
        return bool(answer) and answer[-1] in self.stops

    @cached_property
    def _prompt_of_ids(self) -> dict[tuple[int, ...], Prompt]:
        return {
            tuple(self._chat.ids(self._chat.prompt(prompt.messages))): prompt
            for prompt in self.prompts
        }
