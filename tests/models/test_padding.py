"""What fills up short rows is no token that a text could hold, counts nowhere, and is not saved as the tokenizer's padding."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from cai.config import SFT, Reward
from cai.models.chat_template.format import ChatFormat
from cai.models.decode import Stops, decode
from cai.models.load import load_language_model, load_tokenizer
from cai.models.packing.layout import PromptGroup, pack
from cai.models.packing.logits import next_token_logits
from cai.models.packing.padding import padding_id
from cai.models.scalar import load_scalar_model
from cai.records import Comparison, Preference, Prompt
from cai.train.reward.scoring import score_texts
from cai.train.reward.trainer import train_reward
from cai.train.sft import train_sft

HEADERS = (
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{% endif %}"
)
MARKS = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
RESERVED = "<|reserved_special_token_0|>"
SHAPES = {
    "reserved tokens": (["<|image_pad|>", RESERVED, "<|reserved_special_token_1|>"], {}, RESERVED),
    "one for padding": ([RESERVED, "<|finetune_right_pad_id|>"], {}, "<|finetune_right_pad_id|>"),
    "padded with the end": ([], {"pad_token": "<|eot_id|>"}, "<|eot_id|>"),
    "neither": ([], {}, "<|eot_id|>"),
    "its own": (["<pad>", RESERVED], {"pad_token": "<pad>"}, "<pad>"),
}
ANSWERS = ("No! Never!!", "Yes")


def byte_level(spare, special):
    """A tokenizer that knows bytes, of which ``!`` has the id 0, and marks of turns; no token stands for the unknown."""
    vocabulary = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocabulary, []))
    core.pre_tokenizer, core.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    core.add_special_tokens([*MARKS, *spare])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        chat_template=HEADERS,
        clean_up_tokenization_spaces=False,
        **special,
    )


@pytest.fixture(params=SHAPES)
def shaped(request, tmp_path):
    """A model folder, its tokenizer, and the token that is to fill up its rows."""
    spare, special, filler = SHAPES[request.param]
    tokenizer = byte_level(spare, special)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    folder = tmp_path / "base"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder), load_tokenizer(str(folder)), filler


def test_no_ordinary_token_becomes_padding(shaped):
    _, tokenizer, filler = shaped
    before = tokenizer.pad_token
    assert (
        tokenizer.convert_ids_to_tokens(0) == "!"
        and tokenizer.convert_ids_to_tokens(padding_id(tokenizer)) == filler
    )
    assert tokenizer.pad_token == before, "it is not set"


def test_a_reserved_token_that_the_template_uses_is_left_to_it(shaped):
    _, tokenizer, filler = shaped
    tokenizer.chat_template = HEADERS.replace("{{ m.role }}", filler)
    if filler != tokenizer.pad_token:
        assert (
            filler == tokenizer.eos_token
            or tokenizer.convert_ids_to_tokens(padding_id(tokenizer)) != filler
        )


def test_a_filled_up_row_is_read_as_alone_though_it_holds_the_end_token(shaped):
    name, tokenizer, _ = shaped
    model, _ = load_language_model(name, torch.device("cpu"), torch.float32)
    chat, prompts = ChatFormat(tokenizer), (Prompt.of("Is it so?"), Prompt.of("So?"))
    rows = [chat.example(p.messages, answer) for p, answer in zip(prompts, ANSWERS, strict=True)]
    assert all(
        before.count(tokenizer.eos_token_id) == 1 and after[-1] == tokenizer.eos_token_id
        for before, after in rows
    )
    pad_id, prompts = padding_id(tokenizer), [before for before, _ in rows]
    drawn = decode(
        model,
        prompts,
        max_tokens=8,
        temperature=1,
        seeds=[0, 0],
        stops=Stops(frozenset()),
        pad_id=pad_id,
    )
    for prompt, row in zip(prompts, drawn, strict=True):
        with torch.no_grad():
            standalone = (
                model(torch.tensor([prompt + row.tokens]))
                .logits[0, len(prompt) - 1 : -1]
                .log_softmax(-1)
            )
        assert row.logprobs == pytest.approx(
            standalone.gather(1, torch.tensor(row.tokens)[:, None])[:, 0].tolist(), abs=1e-4
        )
    prompt_groups = [PromptGroup(before, [after]) for before, after in rows]
    with torch.no_grad():
        expected = [
            model(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
            for before, after in rows
        ]
        assert torch.allclose(
            next_token_logits(model, pack(model, prompt_groups, pad_id)),
            torch.cat(expected),
            atol=1e-4,
        )


def test_no_padding_token_is_saved_that_the_base_had_not(shaped, tmp_path):
    name, tokenizer, _ = shaped
    out = tmp_path / "sft"
    train_sft(
        [(Prompt.of("Is it so?"), answer) for answer in ANSWERS],
        name,
        out,
        SFT(epochs=1, batch_size=2),
    )
    found = AutoTokenizer.from_pretrained(out)
    assert found.pad_token == tokenizer.pad_token
    assert [
        json.loads((path / "config.json").read_text())["pad_token_id"]
        for path in (out, tmp_path / "base")
    ] == [tokenizer.pad_token_id] * 2
    assert found.decode(found("No! Never!!").input_ids, skip_special_tokens=True) == "No! Never!!"


def test_a_reward_model_is_not_read_one_token_early(shaped, tmp_path):
    """Other tools read at the last token that is not padding."""
    name, tokenizer, _ = shaped
    shown = Comparison.of(Prompt.of("Is it so?"), *ANSWERS)
    label = Preference(id=shown.id, comparison=shown, p_first=1.0, source="human")
    train_reward(
        [label], name, tmp_path / "reward", Reward(epochs=1, batch_size=1, eval_fraction=0)
    )
    scalar = load_scalar_model(str(tmp_path / "reward"), device=torch.device("cpu"))
    library = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "reward", dtype=torch.float32
    )
    chat = ChatFormat(tokenizer)
    for answer, score in zip(
        ANSWERS, score_texts(scalar, [(shown.prompt, answer) for answer in ANSWERS]), strict=True
    ):
        before, after = chat.example(shown.prompt.messages, answer)
        with torch.no_grad():
            raw = library(torch.tensor([before + after])).logits[0, 0]
        assert torch.allclose(
            (raw - library.config.reward_mean) / library.config.reward_std, score, atol=1e-4
        )
