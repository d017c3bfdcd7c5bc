"""The tokens that end an answer: the same for sampling, rollouts, monitoring and reward models."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from cai.models.chat_template.format import ChatFormat
from cai.models.load import resolve


def stop_tokens(name: str, chat: ChatFormat) -> frozenset[int]:
    """Collect the ids of all tokens that end an answer of a model.

    These are the end tokens of its generation config, the end token of its tokenizer, and the token
    with which its chat template ends an assistant turn. There are checkpoints in which only one of
    the three is right.

    Args:
        name: The model's name.
        chat: The chat format that its prompts are rendered with.
    """
    eos = _generation_config(name).eos_token_id
    ids = [
        *(eos if isinstance(eos, list) else [eos]),
        chat.tokenizer.eos_token_id,
        chat.end_of_turn,
    ]
    return frozenset(int(i) for i in ids if i is not None)


def answer_text(
    tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], stops: frozenset[int]
) -> str:
    """Decode a sampled answer without the stop token that ended it.

    A stop token need not be a special token, so skipping those is not enough.
    """
    has_stop = bool(tokens) and tokens[-1] in stops
    written = tokens[:-1] if has_stop else tokens
    return str(tokenizer.decode(list(written), skip_special_tokens=True)).strip()


def _generation_config(name: str) -> GenerationConfig:
    """Return the generation config that the library gives the model when it opens it."""
    folder = resolve(name)
    try:
        return GenerationConfig.from_pretrained(folder)
    except OSError:  # the model has none of its own
        config: GenerationConfig = GenerationConfig.from_model_config(
            AutoConfig.from_pretrained(folder, trust_remote_code=False)
        )
        return config
