"""A policy's tokens as texts again, for whoever reads other tokens than the policy, or none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from cai.models.chat import ChatFormat
from cai.models.load import load_tokenizer
from cai.records import Prompt


class Texts:
    """Reads token ids of some known prompts, and of a policy's answers to them, back as records and texts."""

    def __init__(self, prompts: Sequence[Prompt], policy: str, style: str = "") -> None:
        self.tokenizer, self.prompts, self.style = load_tokenizer(policy), prompts, style

    def __call__(self, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> list[tuple[Prompt, str]]:
        """The prompt and the answer's text of each row."""
        said = [str(self.tokenizer.decode(answer, skip_special_tokens=True)).strip() for answer in answers]
        return [(self._known[tuple(ids)], text) for ids, text in zip(prompts, said, strict=True)]

    def ended(self, answer: Sequence[int]) -> bool:
        """Whether an answer ended by itself."""
        return list(answer[-1:]) == [self.tokenizer.eos_token_id]

    @cached_property
    def _known(self) -> dict[tuple[int, ...], Prompt]:
        chat = ChatFormat(self.tokenizer, self.style)
        return {tuple(chat.ids(chat.prompt(prompt.messages))): prompt for prompt in self.prompts}
