"""Refuse chat templates that lose text, and tokenizers that read control tokens out of it."""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from cai.errors import InputError, Problem
from cai.models.chat_template.shield import Shield
from cai.models.chat_template.traits import TemplateTraits


def refused(tokenizer: PreTrainedTokenizerBase, reason: str) -> InputError:
    """Return the error of a chat template that cannot be used.

    Args:
        tokenizer: The tokenizer that has the template.
        reason: What the template does.
    """
    advice = "choose another model or chat_format: transcript"
    return InputError([Problem("chat template", f"{tokenizer.name_or_path} {reason}; {advice}")])


def check_kept(tokenizer: PreTrainedTokenizerBase, traits: TemplateTraits) -> None:
    """Refuse a template that loses what people or models write.

    Raises:
        InputError: If it does.
    """
    if traits.lost:
        raise refused(tokenizer, f"drops the text of {' and '.join(traits.lost)} turns")


def check_shield(
    tokenizer: PreTrainedTokenizerBase, shield: Shield, ids: Callable[[str], list[int]]
) -> None:
    """Refuse a tokenizer that reads control tokens out of what people write.

    Args:
        tokenizer: The tokenizer.
        shield: What keeps control tokens out of texts.
        ids: Tokenizes a conversation of one question.

    Raises:
        InputError: If it does.
    """
    added = tokenizer.added_tokens_decoder
    control = {i for i, t in added.items() if shield.control.fullmatch(t.content)}
    control.discard(tokenizer.unk_token_id)  # any unknown word may become it

    def count(content: str) -> int:
        return sum(i in control for i in ids(content))

    contents = [added[i].content for i in sorted(control)]
    if count("x" + "x".join(contents) + "x") != count("x"):
        reason = f"{tokenizer.name_or_path} reads control tokens out of what people write"
        raise InputError([Problem("tokenizer", f"{reason}; choose chat_format: transcript")])
