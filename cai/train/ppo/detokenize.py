"""A policy's tokens as texts again, for whoever reads other tokens than the policy, or none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer
from cai.models.stopping import answer_text, stop_tokens
from cai.records import Prompt


class Detokenizer:
    """Reads token ids of some known prompts, and of a policy's answers to them, back as records and texts."""

    def __init__(self, prompts: Sequence[Prompt], policy: str, chat_format: str = "") -> None:
        self.tokenizer, self.prompts, self.chat_format = (
            load_tokenizer(policy),
            prompts,
            chat_format,
        )
        self._chat = ChatFormat(self.tokenizer, chat_format)
        self.stops = stop_tokens(policy, self._chat)

    def __call__(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> list[tuple[Prompt, str]]:
        """The prompt and the answer's text of each row."""
        texts = [answer_text(self.tokenizer, answer, self.stops) for answer in answers]
        return [(self._known[tuple(ids)], text) for ids, text in zip(prompts, texts, strict=True)]

    def ended(self, answer: Sequence[int]) -> bool:
        """Whether an answer ended by itself."""
        return bool(answer) and answer[-1] in self.stops

    @cached_property
    def _known(self) -> dict[tuple[int, ...], Prompt]:
        return {
            tuple(self._chat.ids(self._chat.prompt(prompt.messages))): prompt
            for prompt in self.prompts
        }
