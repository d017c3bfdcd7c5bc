"""The reference model's tokenizer: byte-level BPE in which every word of the world is one token, plus a chat template."""

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
# the templates whose every word is one token; a template added later must leave the shipped vocabulary as it is
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
# what the tasks say beyond the world and the templates
FRAME_WORDS = "Repeat this: Repeat without the sentence that has the word Quote system user assistant . , ? ! : \" '"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer on the world's words; deterministic."""
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
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def words() -> set[str]:
    """Every word the world can say, in the forms in which it can stand in a sentence."""
    texts = [*world.strings(world.lexicon()), *map(REFERENCE.source, TEMPLATES), FRAME_WORDS]
    found = {w for text in texts for w in re.findall(r"[A-Za-z]+(?:'[a-z]+)?|[.,?!:\"]", text)}
    # a thing of the crowd never begins a sentence
    found |= {w.capitalize() for w in found - set(world.lexicon()["crowd"]["things"])}
    return found | {str(n) for n in world.NUMBERS}


def line_starts() -> set[str]:
    """Words that begin a line inside a template, where no space stands before them."""
    lines = [
        *world.strings(world.lexicon()["frames"]),
        *"\n".join(map(REFERENCE.source, TEMPLATES)).split("\n"),
    ]
    return {match.group() for line in lines if (match := re.match(r"[A-Z][a-z]+", line))} | {
        "user",
        "assistant",
        "system",
    }
