"""Reward models of other families and from elsewhere score as their library scores."""

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    CohereConfig,
    DebertaV2Config,
    FNetConfig,
    GraniteConfig,
    MambaConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from cai.config import Reward
from cai.errors import InputError
from cai.models.scalar import load_scalar_model, reads_last_token
from cai.models.sequence_classes import sequence_class
from cai.records import Comparison, Preference, Prompt
from cai.reference.tokenizer import build_tokenizer
from cai.train.reward import scoring
from cai.train.reward.scoring import score_texts
from cai.train.reward.trainer import train_reward

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
}
WITHOUT_A_CLASS = {
    "granite": GraniteConfig,
    "cohere": CohereConfig,
    "mamba": MambaConfig,
}
ENCODERS = {
    "bert": BertConfig,
    "roberta": RobertaConfig,
    "deberta": DebertaV2Config,
    "modernbert": ModernBertConfig,
    "fnet": FNetConfig,  # reads padding
}
WITH_TYPES = ("bert", "deberta")
ITEMS = [
    (Prompt.of("How do I wash the dog?"), "With soap and water, and with a lot of time."),
    (Prompt.of("How do I wash the dog?"), "No."),
    (Prompt.of("Why?"), "You are a fool."),
]


def config_of(kind, tokenizer, **others):
    sizes = dict(SIZES)
    if kind is MambaConfig:
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    return kind(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **sizes, **special, **others
    )


@pytest.mark.parametrize("family", WITHOUT_A_CLASS)
def test_a_family_without_a_class_gets_a_scalar_head(family, tmp_path):
    """Trained, saved, reopened, and opened by a program that makes the class in the same way."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    base = tmp_path / "base"
    model = AutoModelForCausalLM.from_config(config_of(WITHOUT_A_CLASS[family], tokenizer))
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    labels = [
        Preference(id=str(i), comparison=Comparison.of(p, a, "Hm."), p_first=i % 2, source="x")
        for i, (p, a) in enumerate(ITEMS)
    ]
    config = Reward(batch_size=2, learning_rate=1e-2, eval_fraction=0.0)
    train_reward(labels, base, tmp_path / "reward", config)
    scalar = load_scalar_model(str(tmp_path / "reward"))
    assert reads_last_token(scalar.model)
    settings = AutoConfig.from_pretrained(tmp_path / "reward")
    library = sequence_class(settings).from_pretrained(tmp_path / "reward").eval()
    for (prompt, answer), score in zip(ITEMS, score_texts(scalar, ITEMS), strict=True):
        question, reply = scalar.chat.example(prompt.messages, answer)
        ids = torch.tensor([question + reply])
        with torch.no_grad():
            raw = library.score(library.base_model(ids).last_hidden_state[0, -1])[0]
            trunk, head = card_of(tmp_path / "reward")
            assert torch.allclose(trunk(ids).last_hidden_state[0, -1] @ head[0], raw, atol=1e-4)
            if family != "mamba":  # whose output lacks what the library's forward copies
                assert torch.allclose(library(input_ids=ids).logits[0, 0], raw, atol=1e-4)
        assert float((raw - settings.reward_mean) / settings.reward_std) == pytest.approx(
            float(score), abs=1e-3
        )


def card_of(folder):
    """Open a reward model as its card says."""
    card = (folder / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("path/to/this/folder", str(folder))
    names = {}
    exec(code, names)
    return names["trunk"].eval(), names["head"]


def pair_tokenizer(second_type=0):
    """A tokenizer of an encoder, which puts a separator between two texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "[CLS]", "[SEP]", "<unk>"]
    for prompt, answer in ITEMS:
        words += f"{prompt.text} {answer}".split()
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS] $A [SEP] $B:{second_type} [SEP]:{second_type}",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    inputs = ["input_ids", "attention_mask"] + ["token_type_ids"] * bool(second_type)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_input_names=inputs,
        pad_token="<pad>",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="<unk>",
    )


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_scores_by_its_own_pooling(family, labels, tmp_path, monkeypatch):
    """Unrounded too, where language models are read in bfloat16."""
    monkeypatch.setattr(scoring, "best_dtype", lambda device, hidden_size: torch.bfloat16)
    torch.manual_seed(0)
    tokenizer = pair_tokenizer(second_type=int(family in WITH_TYPES))
    others = {"type_vocab_size": 2} if family != "modernbert" else {}
    config = config_of(ENCODERS[family], tokenizer, num_labels=labels, **others)
    if labels > 1:
        config.id2label = {0: "rude", 1: "kind", 2: "neither"}
        config.label2id = {name: i for i, name in config.id2label.items()}
    library = AutoModelForSequenceClassification.from_config(config).eval()
    library.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    scalar = load_scalar_model(str(tmp_path) + ("#kind" if labels > 1 else ""))
    assert not reads_last_token(scalar.model)
    scores = score_texts(scalar, ITEMS)
    for (prompt, answer), score in zip(ITEMS, scores, strict=True):
        encoded = tokenizer(prompt.text, answer, return_tensors="pt")
        assert ("token_type_ids" in encoded) == (family in WITH_TYPES)
        with torch.no_grad():
            raw = library(**encoded).logits[0, 1 if labels > 1 else 0]
        assert float(raw) == pytest.approx(float(score), abs=1e-4)
    assert scores.std() > 1e-3


def test_other_types_of_tokens_are_refused(tmp_path):
    tokenizer = pair_tokenizer(second_type=2)
    AutoModelForSequenceClassification.from_config(
        config_of(BertConfig, tokenizer, num_labels=1)
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="other types of tokens than 0 and 1"):
        score_texts(load_scalar_model(str(tmp_path)), ITEMS)


def test_no_head_is_trained_on_an_encoder(tmp_path):
    tokenizer = pair_tokenizer()
    config = config_of(BertConfig, tokenizer)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="does not score a text at its last token"):
        load_scalar_model(str(tmp_path), new_head=True)


def test_a_reward_model_reads_the_format_that_it_was_trained_with(tiny, tmp_path):
    from cai.train.options import TrainerOptions

    labels = [
        Preference(id=str(i), comparison=Comparison.of(p, a, "Hm."), p_first=1.0, source="x")
        for i, (p, a) in enumerate(ITEMS)
    ]
    config = Reward(batch_size=2, eval_fraction=0.0)
    for chat_format in ("", "transcript", "plain"):
        out = tmp_path / (chat_format or "own")
        train_reward(labels, tiny, out, config, options=TrainerOptions(chat_format=chat_format))
        assert load_scalar_model(str(out)).chat.chat_format == (chat_format or "chat")
