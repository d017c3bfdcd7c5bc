"""Open how a model writes conversations: its tokenizer, its template, and what ends an answer."""

from __future__ import annotations

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from cai.models.adapters import base_of
from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer, resolve


def open_chat(
    name: str,
    chat_format: str = "",
    *,
    enable_thinking: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> ChatFormat:
    """Open the chat format of a model. The weights are not loaded.

    Args:
        name: ``reference``, a folder, or the id of a model on the hub.
        chat_format: ``chat``, ``transcript`` or ``plain``; empty: what suits the model.
        enable_thinking: Whether a model that can reason before it answers does so.
        tokenizer: The model's tokenizer, if it is open already.

    Raises:
        InputError: If there is no such model, or its template or tokenizer cannot be used.
    """
    tokenizer = load_tokenizer(name) if tokenizer is None else tokenizer
    eos = _generation_config(name).eos_token_id
    ids = eos if isinstance(eos, list) else [eos]
    return ChatFormat(
        tokenizer,
        chat_format,
        enable_thinking=enable_thinking,
        eos=[int(i) for i in ids if i is not None],
    )


def _generation_config(name: str) -> GenerationConfig:
    """Return the generation config that the library gives the model when it opens it."""
    folder, base = resolve(name), base_of(name)
    try:
        return GenerationConfig.from_pretrained(folder)
    except OSError:  # the model has none of its own
        if base is not None:
            return _generation_config(base)
        config: GenerationConfig = GenerationConfig.from_model_config(
            AutoConfig.from_pretrained(folder, trust_remote_code=False)
        )
        return config
