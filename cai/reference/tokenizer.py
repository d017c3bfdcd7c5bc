"""The tokenizer of the reference model: byte-level BPE, one token for each word of the world."""

from __future__ import annotations

import re

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from cai.reference import world
from cai.templates import REFERENCE

ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
END, PAD = "<|end|>", "<|pad|>"
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|' + message.role + '|> ' + message.content | trim + '<|end|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)
# Templates whose words are tokens; a template that is added must not change the shipped vocabulary.
TEMPLATES = (
    "critique",
    "revise",
    "judge",
    "judge_chain_of_thought",
    "transcript",
    "prose_critique",
    "prose_revise",
    "prose_compare",
)
# Words of the tasks that are neither in the world nor in the templates.
FRAME_WORDS = (
    "Repeat this: Repeat without the sentence that has the word Quote system user assistant"
    " . , ? ! : \" '"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer on the words of the world; the result is always the same."""
    core = Tokenizer(models.BPE(unk_token=None, byte_fallback=False))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=6000,
        min_frequency=1,
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(sorted({f" {word}" for word in words()} | line_starts()), trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def words() -> set[str]:
    """Return every word of the world, in all forms that occur in its sentences."""
    texts = [*world.strings(world.lexicon()), *map(REFERENCE.source, TEMPLATES), FRAME_WORDS]
    found = {w for text in texts for w in re.findall(r"[A-Za-z]+(?:'[a-z]+)?|[.,?!:\"]", text)}
    # a thing of the crowd never begins a sentence
    found |= {w.capitalize() for w in found - set(world.lexicon()["crowd"]["things"])}
    return found | {str(n) for n in world.NUMBERS}


def line_starts() -> set[str]:
    """Return the words that begin a line of a template, without a space before them."""
    lines = [
        *world.strings(world.lexicon()["frames"]),
        *"\n".join(map(REFERENCE.source, TEMPLATES)).split("\n"),
    ]
    return {match.group() for line in lines if (match := re.match(r"[A-Z][a-z]+", line))} | {
        "user",
        "assistant",
        "system",
    }
