import torch
from transformers import AutoModelForSequenceClassification

from cai.models.scalar import head, load_scalar_model, text_scores, token_values


def padded(rows, pad_id, left):
    length = max(map(len, rows)) + 2
    ids, mask = torch.full((len(rows), length), pad_id), torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(length - len(row), length) if left else slice(0, len(row))
        ids[i, where], mask[i, where] = torch.tensor(row), 1
    return ids, mask


def test_scores_do_not_depend_on_padding_and_equal_the_library(tiny, tiny_gpt2, tmp_path):
    for name in (tiny, tiny_gpt2):
        torch.manual_seed(1)
        model, tokenizer = load_scalar_model(name, new_head=True, device=torch.device("cpu"))
        rows = [
            tokenizer(text + tokenizer.eos_token, add_special_tokens=False).input_ids
            for text in (" You are a fool.", " Have a lovely day. Then check the boat twice.")
        ]
        with torch.no_grad():
            right = text_scores(model, *padded(rows, tokenizer.pad_token_id, left=False))
            left = text_scores(model, *padded(rows, tokenizer.pad_token_id, left=True))
            alone = torch.cat([text_scores(model, torch.tensor([row]), torch.ones(1, len(row))) for row in rows])
        assert torch.allclose(right, alone, atol=1e-5) and torch.allclose(left, alone, atol=1e-5)
        model.save_pretrained(tmp_path / model.config.model_type)
        library = AutoModelForSequenceClassification.from_pretrained(tmp_path / model.config.model_type)
        with torch.no_grad():
            ids, mask = padded(rows, tokenizer.pad_token_id, left=False)
            assert torch.allclose(library(ids, attention_mask=mask).logits[:, 0], alone, atol=1e-5)
            # reading one token too early gives something else
            early = token_values(model, ids, mask)[torch.arange(2), torch.tensor([len(r) - 2 for r in rows])]
        assert not torch.allclose(early, alone, atol=1e-3)


def test_saved_shift_and_scale_are_applied(tiny, tmp_path):
    model, tokenizer = load_scalar_model(tiny, new_head=True, device=torch.device("cpu"))
    ids = torch.tensor([[7, 8, 9]])
    with torch.no_grad():
        raw = text_scores(model, ids, torch.ones(1, 3))
        model.config.reward_mean, model.config.reward_std = 2.0, 4.0
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        loaded, _ = load_scalar_model(str(tmp_path), device=torch.device("cpu"))
        assert torch.allclose(text_scores(loaded, ids, torch.ones(1, 3)), (raw - 2) / 4)


def test_new_head_has_unit_scale(tiny):
    torch.manual_seed(0)
    weight = head(load_scalar_model(tiny, new_head=True, device=torch.device("cpu")).model).weight
    assert abs(weight.std().item() - (weight.shape[1] + 1) ** -0.5) < 0.05
