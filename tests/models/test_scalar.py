import torch
from transformers import AutoModelForSequenceClassification

from cai.models.packing.layout import PromptGroup, pack
from cai.models.scalar import answer_scores, head, load_scalar_model


def padded(rows, pad_id):
    length = max(map(len, rows)) + 2
    ids, mask = (
        torch.full((len(rows), length), pad_id),
        torch.zeros(len(rows), length, dtype=torch.long),
    )
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
    return ids, mask


def test_scores_do_not_depend_on_padding_and_equal_the_library(tiny, tiny_gpt2, tmp_path):
    for name in (tiny, tiny_gpt2):
        torch.manual_seed(1)
        scalar = load_scalar_model(name, new_head=True, device=torch.device("cpu"))
        model, tokenizer = scalar.model, scalar.tokenizer
        rows = [
            tokenizer(text + tokenizer.eos_token, add_special_tokens=False).input_ids
            for text in (" You are a fool.", " Have a lovely day. Then check the boat twice.")
        ]
        prompt_groups = [PromptGroup(row[:3], [row[3:]]) for row in rows]
        with torch.no_grad():
            together = answer_scores(model, pack(model, prompt_groups, tokenizer.pad_token_id))
            standalone = torch.cat(
                [
                    answer_scores(model, pack(model, [prompt_group], tokenizer.pad_token_id))
                    for prompt_group in prompt_groups
                ]
            )
        assert torch.allclose(together, standalone, atol=1e-5)
        model.save_pretrained(tmp_path / model.config.model_type)
        library = AutoModelForSequenceClassification.from_pretrained(
            tmp_path / model.config.model_type
        )
        with torch.no_grad():
            ids, mask = padded(rows, tokenizer.pad_token_id)
            assert torch.allclose(
                library(ids, attention_mask=mask).logits[:, 0], standalone, atol=1e-5
            )
            # reading one token too early gives something else
            early = answer_scores(
                model,
                pack(
                    model,
                    [PromptGroup(row[:3], [row[3:-1]]) for row in rows],
                    tokenizer.pad_token_id,
                ),
            )
        assert not torch.allclose(early, standalone, atol=1e-3)


def test_saved_shift_and_scale_are_applied(tiny, tmp_path):
    scalar = load_scalar_model(tiny, new_head=True, device=torch.device("cpu"))
    model, tokenizer = scalar.model, scalar.tokenizer
    packed = pack(model, [PromptGroup([7, 8], [[9]])], tokenizer.pad_token_id)
    with torch.no_grad():
        raw = answer_scores(model, packed)
        model.config.reward_mean, model.config.reward_std = 2.0, 4.0
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        loaded, _ = load_scalar_model(str(tmp_path), device=torch.device("cpu"))
        assert torch.allclose(answer_scores(loaded, packed), (raw - 2) / 4)


def test_new_head_has_unit_scale(tiny):
    torch.manual_seed(0)
    weight = head(load_scalar_model(tiny, new_head=True, device=torch.device("cpu")).model).weight
    assert abs(weight.std().item() - (weight.shape[1] + 1) ** -0.5) < 0.05
