"""Labels of a prompt in one group: their gradient, weights, and what is measured on them."""

import math

import pytest
import torch
from toy_data import PROMPTS

from cai.config import Reward, Training
from cai.keys import seed_for
from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer
from cai.models.packing.layout import PromptGroup
from cai.models.scalar import head, load_scalar_model
from cai.records import Comparison, Judgment, Preference
from cai.rl.losses import preference_loss
from cai.train.batching import tokenize
from cai.train.options import TrainerOptions
from cai.train.reward.dataset import PairLabel, PreferenceGroup, build_preference_groups, pair_batch
from cai.train.reward.labels import length_coefficient, weighted_by_prompt, without_near_ties
from cai.train.reward.metrics import eval_metrics
from cai.train.reward.scoring import score_prompt_groups, score_texts
from cai.train.reward.trainer import train_reward

TEXTS = ("I am glad to help.", "You are a fool.", "Have a lovely day. Then check the boat twice.")


def ranking(prompt, p=(1.0, 0.8, 0.3), source="human", **fields):
    """Three labels of the three pairs of three answers."""
    pairs = ((0, 1), (0, 2), (2, 1))
    return [
        Preference(
            id=f"{prompt.id}{i}{j}",
            comparison=Comparison.of(prompt, TEXTS[i], TEXTS[j]),
            p_first=p_first,
            source=source,
            **fields,
        )
        for (i, j), p_first in zip(pairs, p, strict=True)
    ]


@pytest.fixture(scope="module")
def chat(tiny):
    return ChatFormat(load_tokenizer(tiny))


def groups_of(rows, chat, **options):
    return build_preference_groups(rows, chat, 200, **options).groups


# -- groups ----------------------------------------------------------------------------------


def test_answers_of_a_prompt_are_grouped_once(chat):
    rows = [
        *ranking(PROMPTS[0]),
        *ranking(PROMPTS[1])[:1],
        *ranking(PROMPTS[0], p=(0.0, 0.0, 0.0), source="ai"),
    ]
    dataset = build_preference_groups(rows, chat, 200, source_weights={"ai": 0.5})
    assert [len(group.prompt_group.answers) for group in dataset.groups] == [3, 2]
    assert [len(group.labels) for group in dataset.groups] == [6, 1]
    assert [label.weight for label in dataset.groups[0].labels] == [1, 1, 1, 0.5, 0.5, 0.5]
    assert not any(dataset.dropped.values())


def test_comparisons_that_cannot_be_used_are_counted(chat):
    rows = ranking(PROMPTS[0])
    identical = Preference(
        id="s", comparison=Comparison.of(PROMPTS[2], "Yes.", "Yes. "), p_first=1.0, source="x"
    )
    dataset = build_preference_groups([*rows, identical], chat, 200, source_weights={"human": 0})
    assert dataset.groups == []
    assert dataset.dropped["dropped_weight_zero"] == 3
    assert dataset.dropped["dropped_identical"] == 1
    assert dataset.why_empty() == "1 identical, 3 weight zero"


def test_near_ties_leave_with_answers_that_nothing_is_about(chat):
    [group] = groups_of(ranking(PROMPTS[0], p=(1.0, 0.55, 0.5)), chat)
    kept = without_near_ties(group, 0.2)
    assert [(label.first, label.second, label.p_first) for label in kept.labels] == [(0, 1, 1.0)]
    assert kept.prompt_group.answers == group.prompt_group.answers[:2]


def test_weights_by_prompt_add_up_to_one(chat):
    for group in groups_of([*ranking(PROMPTS[0]), *ranking(PROMPTS[1])[:1]], chat):
        assert sum(label.weight for label in weighted_by_prompt(group).labels) == pytest.approx(1)


def test_pair_batch_numbers_answers_through_all_groups(chat):
    groups = groups_of([*ranking(PROMPTS[0]), *ranking(PROMPTS[1])], chat)
    pairs = pair_batch(groups, torch.device("cpu"), row_weights=(1.0, 0.0))
    assert pairs.first.tolist() == [0, 0, 2, 3, 3, 5]
    assert pairs.second.tolist() == [1, 2, 1, 4, 5, 4]
    assert pairs.weight.tolist() == [1, 1, 1, 0, 0, 0]


def test_dominant_principle_is_the_one_that_supports_the_label(chat):
    judgments = tuple(
        Judgment(principle=name, principle_hash="h", method="option_logprobs", p_first=p)
        for name, p in (("x", 0.9), ("y", 0.1), ("z", 0.6))
    )
    comparison = Comparison.of(PROMPTS[0], *TEXTS[:2])
    for p_first, name in ((0.8, "x"), (0.2, "y")):
        row = Preference(
            id="p", comparison=comparison, p_first=p_first, source="ai", judgments=judgments
        )
        assert groups_of([row], chat)[0].labels[0].principle == name
    assert groups_of(ranking(PROMPTS[0]), chat)[0].labels[0].principle == ""


# -- gradients -------------------------------------------------------------------------------


@pytest.fixture
def first_gradient(tiny, tmp_path, monkeypatch):
    """A function that trains on labels and returns the gradient of the first step."""
    gradients = []
    step = torch.optim.AdamW.step

    def record(self, *args, **kwargs):
        parameters = [p for group in self.param_groups for p in group["params"]]
        gradients.append(torch.cat([p.grad.flatten() for p in parameters]))
        return step(self, *args, **kwargs)

    def no_clipping(self, parameters, norm):
        return torch.tensor(1.0)

    monkeypatch.setattr(torch.optim.AdamW, "step", record)
    monkeypatch.setattr("accelerate.accelerator.Accelerator.clip_grad_norm_", no_clipping)

    def gradient(rows, **config):
        options = TrainerOptions(training=Training(precision="float32"))
        settings = Reward(batch_size=8, eval_fraction=0.0, **config)
        train_reward(rows, tiny, tmp_path / "r", settings, options=options)
        return gradients[0]

    return gradient


def gradient_by_hand(tiny, rows, weight=lambda row: 1.0):
    """The same gradient from pairs one by one, each answer in a row of its own."""
    torch.manual_seed(seed_for(0, "reward head"))
    model, chat = load_scalar_model(tiny, new_head=True)
    losses = []
    for row in rows:
        scores = []
        for text in (row.comparison.first, row.comparison.second):
            prompt, answer = chat.example(row.comparison.prompt.messages, text)
            ids = torch.tensor([prompt + answer])
            scores.append(head(model)(model.base_model(ids).last_hidden_state[0, -1]))
        loss = preference_loss(scores[0], scores[1], torch.tensor([row.p_first]), row.margin)
        losses.append(weight(row) * loss)
    (sum(losses) / sum(weight(row) for row in rows)).sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_gradient_of_a_ranking_is_that_of_its_pairs(tiny, first_gradient):
    rows = [*ranking(PROMPTS[0]), *ranking(PROMPTS[1])[:1]]
    gradient = first_gradient(rows)
    assert torch.allclose(gradient, gradient_by_hand(tiny, rows), atol=1e-5)
    assert not torch.allclose(gradient, gradient_by_hand(tiny, rows[:3]), atol=1e-4)


def test_weight_by_prompt_gives_prompts_the_same_weight(tiny, first_gradient):
    rows = [*ranking(PROMPTS[0]), *ranking(PROMPTS[1])[:1]]
    expected = gradient_by_hand(tiny, rows, lambda row: 1 / 3 if row in rows[:3] else 1.0)
    assert torch.allclose(first_gradient(rows, weight_by_prompt=True), expected, atol=1e-5)


def test_source_weights_and_margins_in_the_gradient(tiny, first_gradient):
    def weight(row):
        return 0.25 if row.source == "ai" else 1.0

    rows = [*ranking(PROMPTS[0], source="ai"), *ranking(PROMPTS[1], margin=0.7)]
    gradient = first_gradient(rows, source_weights={"ai": 0.25})
    assert torch.allclose(gradient, gradient_by_hand(tiny, rows, weight), atol=1e-5)
    no_margin = [row.model_copy(update={"margin": 0.0}) for row in rows]
    assert not torch.allclose(gradient, gradient_by_hand(tiny, no_margin, weight), atol=1e-4)


def test_length_coefficient_against_a_grid(chat):
    rows = []
    for number, prompt in enumerate(PROMPTS):
        first, second = (TEXTS[0], TEXTS[2]) if number % 3 else (TEXTS[2], TEXTS[1])
        comparison = Comparison.of(prompt, first, second)
        label = (number % 5) / 4
        rows.append(Preference(id=str(number), comparison=comparison, p_first=label, source="x"))
    groups = groups_of(rows, chat)
    extra_tokens = [
        len(group.prompt_group.answers[label.first]) - len(group.prompt_group.answers[label.second])
        for group in groups
        for label in group.labels
    ]

    def loss(coefficient):
        return sum(
            row.p_first * math.log1p(math.exp(-coefficient * extra))
            + (1 - row.p_first) * math.log1p(math.exp(coefficient * extra))
            for row, extra in zip(rows, extra_tokens, strict=True)
        )

    best = min((i / 10_000 for i in range(-3000, 3001)), key=loss)
    assert length_coefficient(groups) == pytest.approx(best, abs=2e-4)


# -- metrics ---------------------------------------------------------------------------------


def test_eval_metrics_against_a_count(tiny):
    torch.manual_seed(1)
    scalar = load_scalar_model(tiny, new_head=True)
    chat = ChatFormat(scalar.tokenizer)
    rows = []
    for number, prompt in enumerate(PROMPTS):
        rows += ranking(prompt, source="ai" if number % 2 else "human")
    groups = groups_of(rows, chat)
    scores = score_prompt_groups(scalar, [group.prompt_group for group in groups])
    metrics = eval_metrics(scores, groups)
    is_right, longer_is_better = [], []
    for row in rows:
        prompt, texts = row.comparison.prompt, (row.comparison.first, row.comparison.second)
        first, second = score_texts(scalar, [(prompt, text) for text in texts])
        is_right.append(float((first > second) == (row.p_first > 0.5)))
        length, other = (len(tokenize(chat, prompt, text, 200).answer) for text in texts)
        longer = 0.5 if length == other else float((length > other) == (row.p_first > 0.5))
        longer_is_better.append(longer)
    assert metrics["eval_accuracy"] == pytest.approx(sum(is_right) / len(is_right))
    assert metrics["longer_is_better"] == pytest.approx(sum(longer_is_better) / len(rows))
    assert metrics["eval_pairs"] == len(rows)
    parts = {"accuracy_ai", "accuracy_human", "accuracy_certain", "accuracy_uncertain"}
    assert parts < set(metrics)


def group_of_pair(label, lengths):
    prompt_group = PromptGroup([1], [[2] * lengths[0], [3] * lengths[1]])
    return PreferenceGroup(f"{label}{lengths}", prompt_group, [label])


def test_eval_metrics_by_length_principle_and_calibration():
    rows = [
        (2.0, 0.0, 1.0, "x", (9, 2)),
        (1.0, 0.0, 1.0, "x", (8, 3)),
        (0.0, 1.0, 1.0, "y", (2, 7)),
        (0.0, 0.5, 0.2, "y", (5, 4)),
    ]
    scores = torch.tensor([score for row in rows for score in row[:2]])
    groups = [
        group_of_pair(PairLabel(0, 1, p, principle=principle), lengths)
        for _, _, p, principle, lengths in rows
    ]
    metrics = eval_metrics(scores, groups, scale=2.0)
    assert metrics["accuracy_longer_better"] == 1.0
    assert metrics["accuracy_shorter_better"] == 0.5
    assert metrics["by_principle"] == {
        "x": {"n": 2, "accuracy": 1.0},
        "y": {"n": 2, "accuracy": 0.5},
    }
    bins = {}
    for first, second, p, *_ in rows:
        predicted = 1 / (1 + math.exp(-2.0 * (first - second)))
        bins.setdefault(min(int(predicted * 10), 9), []).append((predicted, p))
    error = sum(abs(sum(q - p for q, p in pairs)) for pairs in bins.values()) / len(rows)
    assert metrics["calibration_error"] == pytest.approx(error, abs=1e-6)
    other = eval_metrics(scores, groups, scale=0.5)["calibration_error"]
    assert other != pytest.approx(error, abs=1e-3)


def test_eval_metrics_without_data_are_left_out():
    assert eval_metrics(torch.tensor([]), []) == {"eval_pairs": 0}
    near_tie = group_of_pair(PairLabel(0, 1, 0.55), (2, 2))
    metrics = eval_metrics(torch.tensor([1.0, 0.0]), [near_tie])
    assert metrics.keys() == {"eval_pairs", "calibration_error"}
    assert metrics["eval_pairs"] == 1
