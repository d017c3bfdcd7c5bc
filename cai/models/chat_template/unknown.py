"""Characters that a tokenizer does not know: they vanish, or become a token that means nothing."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase


class UnknownCharacters:
    """Finds the characters of texts that a tokenizer does not know.

    Args:
        tokenizer: The tokenizer. Each different character is tried once.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._is_lost: dict[str, bool] = {}

    def among(self, text: str) -> list[str]:
        """List the different characters of a text that are lost, in order of appearance."""
        return [character for character in dict.fromkeys(text) if self._lost(character)]

    def _lost(self, character: str) -> bool:
        if character not in self._is_lost:
            self._is_lost[character] = not character.isspace() and self._try(character)
        return self._is_lost[character]

    def _try(self, character: str) -> bool:
        ids = self._ids(f"a{character}a")
        return ids == self._ids("aa") or self._tokenizer.unk_token_id in ids

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids
