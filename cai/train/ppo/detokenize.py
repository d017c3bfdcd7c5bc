"""A policy's tokens as texts, for reward sources that tokenize differently or read texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from cai.models.chat import open_chat
from cai.records import Prompt


class Detokenizer:
    """Turns token ids of known prompts, and of a policy's answers to them, into records and texts.

    Args:
        prompts: Every prompt that may occur.
        policy: Folder or hub id of the policy.
        chat_format: How conversations are written; empty: by the model's chat template.

    Attributes:
        tokenizer: The policy's tokenizer.
        chat: How the policy writes conversations.
    """

    def __init__(self, prompts: Sequence[Prompt], policy: str, chat_format: str = "") -> None:
        self.prompts = prompts
        self.chat_format = chat_format
        self.chat = open_chat(policy, chat_format)
        self.tokenizer = self.chat.tokenizer

    def __call__(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> list[tuple[Prompt, str]]:
        """Return the prompt and the text of the answer for each row of token ids."""
        return [
            (self._prompt_of_ids[tuple(prompt)], self.chat.decode(answer).text)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]

    def ended(self, answer: Sequence[int]) -> bool:
        """Return whether an answer ended with a stop token, and was not cut off."""
        return self.chat.has_ended(answer)

    @cached_property
    def _prompt_of_ids(self) -> dict[tuple[int, ...], Prompt]:
        return {
            tuple(self.chat.ids(self.chat.prompt(prompt.messages))): prompt
            for prompt in self.prompts
        }
