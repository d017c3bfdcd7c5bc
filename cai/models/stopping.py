"""The tokens that end an answer, the same for sampling, rollouts, watching and reward models."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from cai.models.chat_template.format import ChatFormat
from cai.models.load import resolve


def stop_tokens(name: str, chat: ChatFormat) -> frozenset[int]:
    """Ids of all tokens that end an answer of a model.

    These are the end tokens of its generation config, that of its tokenizer, and the one with which its chat template ends an
    assistant turn: checkpoints exist in which any one of the three is the only one that is right.
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
    """The text of a sampled answer, without the stop token that ended it (which need not be a special token)."""
    ended = bool(tokens) and tokens[-1] in stops
    return str(
        tokenizer.decode(list(tokens[:-1] if ended else tokens), skip_special_tokens=True)
    ).strip()


def _generation_config(name: str) -> GenerationConfig:
    """The generation config that the library gives a model when it opens it."""
    folder = resolve(name)
    try:
        return GenerationConfig.from_pretrained(folder)
    except OSError:  # it has none of its own
        config: GenerationConfig = GenerationConfig.from_model_config(
            AutoConfig.from_pretrained(folder, trust_remote_code=False)
        )
        return config
