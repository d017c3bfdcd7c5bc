"""Rankings: all comparisons of a prompt in one element, and the gradient of the pairs written out."""

import math

import pytest
import torch
from test_training import PROMPTS

from cai.config import Reward, RewardEnsemble, Training
from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer
from cai.models.packing.layout import PromptGroup
from cai.models.scalar import load_scalar_model
from cai.records import Comparison, Judgment, Preference
from cai.rl.losses import preference_loss
from cai.train.batching import tokenize
from cai.train.options import TrainerOptions
from cai.train.ppo.rewards import Ensemble, ensemble_paths, length_cost, mixed, reward_scorer
from cai.train.reward.dataset import PairLabel, PreferenceGroup, build_preference_groups
from cai.train.reward.labels import length_coefficient
from cai.train.reward.metrics import eval_metrics
from cai.train.reward.scoring import score_prompt_groups, score_texts
from cai.train.reward.trainer import train_reward

TEXTS = ("I am glad to help.", "You are a fool.", "Have a lovely day. Then check the boat twice.")


def ranking(prompt, p=(1.0, 0.8, 0.3), source="human", **more):
    pairs = ((0, 1), (0, 2), (2, 1))
    return [
        Preference(
            id=f"{prompt.id}{i}{j}",
            comparison=Comparison.of(prompt, TEXTS[i], TEXTS[j]),
            p_first=q,
            source=source,
            **more,
        )
        for (i, j), q in zip(pairs, p, strict=True)
    ]


def chat(tiny):
    return ChatFormat(load_tokenizer(tiny))


def test_the_answers_of_a_prompt_stand_together_once(tiny):
    rows = [
        *ranking(PROMPTS[0]),
        *ranking(PROMPTS[1])[:1],
        *ranking(PROMPTS[0], p=(0.0, 0.0, 0.0), source="ai"),
    ]
    groups, left_out = build_preference_groups(rows, chat(tiny), 200, source_weights={"ai": 0.5})
    assert [len(e.prompt_group.answers) for e in groups] == [3, 2] and [
        len(e.labels) for e in groups
    ] == [6, 1]
    assert [label.weight for label in groups[0].labels] == [1, 1, 1, 0.5, 0.5, 0.5] and not any(
        left_out.values()
    )
    assert (
        build_preference_groups(rows, chat(tiny), 200, source_weights={"human": 0})[1]["dropped_weight_zero"] == 4
    )
    same = Preference(
        id="s", comparison=Comparison.of(PROMPTS[2], "Yes.", "Yes. "), p_first=1.0, source="x"
    )
    assert build_preference_groups([same], chat(tiny), 200)[1]["dropped_identical"] == 1


def moved(tiny, tmp_path, rows, monkeypatch, **config):
    """The gradient of the first step: what a step of plain descent changes."""
    seen = {}
    step = torch.optim.AdamW.step

    def keep(self, *args, **kwargs):
        seen.setdefault(
            "gradient", [p.grad.clone() for group in self.param_groups for p in group["params"]]
        )
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", keep)
    monkeypatch.setattr(
        "accelerate.accelerator.Accelerator.clip_grad_norm_",
        lambda self, parameters, norm: torch.tensor(1.0),
    )
    train_reward(
        rows,
        tiny,
        tmp_path / "r",
        Reward(batch_size=8, eval_fraction=0.0, **config),
        options=TrainerOptions(training=Training(precision="float32")),
    )
    return torch.cat([g.flatten() for g in seen["gradient"]])


def by_hand(tiny, rows, weight=lambda row: 1.0):
    """The same gradient from pairs written out one by one, in double rows of two answers."""
    from cai.keys import seed_for
    from cai.models.scalar import head

    torch.manual_seed(seed_for(0, "reward head"))
    model, tokenizer = load_scalar_model(tiny, new_head=True)
    form, losses = ChatFormat(tokenizer), []
    for row in rows:
        scores = []
        for text in (row.comparison.first, row.comparison.second):
            before, added = form.answered(row.comparison.prompt.messages, text)
            hidden = model.base_model(torch.tensor([form.ids(before + added)])).last_hidden_state[
                0, -1
            ]
            scores.append(head(model)(hidden))
        losses.append(
            weight(row)
            * preference_loss(scores[0], scores[1], torch.tensor([row.p_first]), row.margin)
        )
    (sum(losses) / sum(weight(row) for row in rows)).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_a_rankings_gradient_is_that_of_its_pairs(tiny, tmp_path, monkeypatch):
    rows = [*ranking(PROMPTS[0]), *ranking(PROMPTS[1])[:1]]
    found = moved(tiny, tmp_path, rows, monkeypatch)
    assert torch.allclose(found, by_hand(tiny, rows), atol=1e-5)
    assert not torch.allclose(found, by_hand(tiny, rows[:3]), atol=1e-4)


def test_prompts_may_count_alike_instead_of_labels(tiny, tmp_path, monkeypatch):
    rows = [*ranking(PROMPTS[0]), *ranking(PROMPTS[1])[:1]]
    found = moved(tiny, tmp_path, rows, monkeypatch, weight_by_prompt=True)
    assert torch.allclose(
        found, by_hand(tiny, rows, lambda row: 1 / 3 if row in rows[:3] else 1.0), atol=1e-5
    )


def test_sources_weigh_and_margins_ask_for_a_lead(tiny, tmp_path, monkeypatch):
    rows = [*ranking(PROMPTS[0], source="ai"), *ranking(PROMPTS[1], margin=0.7)]
    found = moved(tiny, tmp_path, rows, monkeypatch, source_weights={"ai": 0.25})
    assert torch.allclose(
        found, by_hand(tiny, rows, lambda row: 0.25 if row.source == "ai" else 1.0), atol=1e-5
    )
    plain = [row.model_copy(update={"margin": 0.0}) for row in rows]
    assert not torch.allclose(
        found, by_hand(tiny, plain, lambda row: 0.25 if row.source == "ai" else 1.0), atol=1e-4
    )


def test_smoothed_labels_end_at_the_smoothed_odds(tiny, tmp_path):
    rows = [row for prompt in PROMPTS for row in ranking(prompt, p=(1.0, 1.0, 1.0))[:1]]
    config = Reward(
        epochs=12, batch_size=8, learning_rate=5e-3, eval_fraction=0.0, label_smoothing=0.2
    )
    train_reward(rows, tiny, tmp_path / "r", config)
    scalar = load_scalar_model(str(tmp_path / "r"))
    scores = (
        score_texts(scalar, [(PROMPTS[0], text) for text in TEXTS[:2]])
        * scalar.model.config.reward_std
    )
    assert float(scores[0] - scores[1]) == pytest.approx(math.log(0.8 / 0.2), abs=0.15)


def long_and_short(kind, wins):
    """Pairs in which ``kind`` says what is better, but the longer answer wins more often than it should."""
    made = []
    for number, prompt in enumerate(PROMPTS * 3):
        polite, rude = (
            ("I am glad to help.", "You are a fool.")
            if number % 2
            else ("I am glad to help you.", "You fool.")
        )
        longer = " Then check the boat and the letter and the lamp twice."
        first, second = (polite, rude + longer) if number % 3 else (polite + longer, rude)
        made.append(
            Preference(
                id=str(number),
                comparison=Comparison.of(prompt, first, second),
                p_first=wins(number),
                source=kind,
            )
        )
    return made


def test_a_liking_for_long_answers_is_learnt_apart(tiny, tmp_path):
    # politeness is worth log-odds of 1, eleven words more of 2
    def wins(number):
        lead = 1 - 2 if number % 3 else 1 + 2
        return 1 / (1 + math.exp(-lead))

    liking = {}
    for apart in (False, True):
        config = Reward(
            epochs=12, batch_size=8, learning_rate=5e-3, eval_fraction=0.0, length_control=apart
        )
        metrics = train_reward(long_and_short("x", wins), tiny, tmp_path / str(apart), config)
        assert ("length_coefficient" in metrics) == apart and metrics.get(
            "length_coefficient", 1.0
        ) > 0
        scalar = load_scalar_model(str(tmp_path / str(apart)))
        said = "You are a fool."
        pair = score_texts(
            scalar,
            [
                (PROMPTS[3], said + " Then check the boat and the letter and the lamp twice."),
                (PROMPTS[3], said),
            ],
        )
        liking[apart] = float(pair[0] - pair[1]) * scalar.model.config.reward_std
    assert liking[True] < 0.6 * liking[False]


def test_what_a_token_is_worth_against_a_grid(tiny):
    groups, _ = build_preference_groups(
        long_and_short("x", lambda number: (number % 5) / 4), chat(tiny), 200
    )
    labels = [
        (e.p_first, len(el.prompt_group.answers[e.first]) - len(el.prompt_group.answers[e.second]))
        for el in groups
        for e in el.labels
    ]

    def loss(worth):
        return sum(
            math.log1p(math.exp(-worth * d)) * p + math.log1p(math.exp(worth * d)) * (1 - p)
            for p, d in labels
        )

    best = min((i / 10_000 for i in range(-3000, 3001)), key=loss)
    assert length_coefficient(groups) == pytest.approx(best, abs=2e-4)


def test_an_ensemble_is_several_and_says_where_they_differ(tiny, tmp_path):
    rows = [row for prompt in PROMPTS for row in ranking(prompt)]
    metrics = train_reward(
        rows,
        tiny,
        tmp_path / "r",
        Reward(
            batch_size=8,
            learning_rate=2e-3,
            epochs=2,
            eval_fraction=0.3,
            ensemble=RewardEnsemble(size=3),
        ),
    )
    assert {"eval_accuracy_1", "eval_accuracy_2"} < set(metrics) and len(
        ensemble_paths(str(tmp_path / "r"))
    ) == 3
    assert not list(tmp_path.glob("r.member-*"))
    prompt, answers = [5, 6, 7], [[8, 9], [10, 11, 12]]
    standalone = [reward_scorer(f"{tmp_path}/r/member-{n}")([prompt] * 2, answers) for n in (1, 2)]
    together = reward_scorer(str(tmp_path / "r"))
    assert isinstance(together, Ensemble) and not torch.allclose(standalone[0], standalone[1])
    every = torch.stack([member([prompt] * 2, answers) for member in together.members])
    assert torch.allclose(
        together([prompt] * 2, answers), every.mean(0)
    ) and together.spread == pytest.approx(float(every.std(0, unbiased=False).mean()))
    least, unsure = (
        reward_scorer(str(tmp_path / "r"), how)([prompt] * 2, answers)
        for how in ("min", "lower_confidence")
    )
    assert torch.equal(least, every.amin(0)) and torch.allclose(
        unsure, every.mean(0) - every.std(0, unbiased=False)
    )


def test_scores_mix_and_length_costs():
    half = mixed(
        {length_cost(0.5, free=1): 2.0, lambda prompts, answers: torch.ones(len(answers)): 3.0}
    )
    assert half([[1]] * 2, [[1], [1, 2, 3]]).tolist() == [3.0, 1.0]


def test_held_out_figures_against_a_count(tiny):
    torch.manual_seed(1)
    scalar = load_scalar_model(tiny, new_head=True)
    rows = [
        row
        for i, prompt in enumerate(PROMPTS)
        for row in ranking(prompt, source="ai" if i % 2 else "human")
    ]
    groups, _ = build_preference_groups(rows, ChatFormat(scalar.tokenizer), 200)
    found = eval_metrics(
        score_prompt_groups(scalar, [group.prompt_group for group in groups]), groups
    )
    right, longer = [], []
    for row in rows:
        scores = score_texts(
            scalar,
            [
                (row.comparison.prompt, row.comparison.first),
                (row.comparison.prompt, row.comparison.second),
            ],
        )
        right.append(float((scores[0] > scores[1]) == (row.p_first > 0.5)))
        form = ChatFormat(scalar.tokenizer)
        sizes = [
            len(tokenize(form, row.comparison.prompt, text, 200).answer)
            for text in (row.comparison.first, row.comparison.second)
        ]
        longer.append(
            0.5 if sizes[0] == sizes[1] else float((sizes[0] > sizes[1]) == (row.p_first > 0.5))
        )
    assert found["eval_accuracy"] == pytest.approx(sum(right) / len(right)) and found[
        "eval_pairs"
    ] == len(rows)
    assert found["longer_is_better"] == pytest.approx(sum(longer) / len(longer))
    assert {"accuracy_ai", "accuracy_human", "accuracy_certain", "accuracy_uncertain"} < set(found)


def test_held_out_figures_by_length_principle_and_calibration():
    def group(first, second, p, principle, sizes):
        prompt_group = PromptGroup([1], [[2] * sizes[0], [3] * sizes[1]])
        return PreferenceGroup(
            f"{first}{second}{principle}", prompt_group, [PairLabel(0, 1, p, principle=principle)]
        )

    rows = [
        (2.0, 0.0, 1.0, "x", (9, 2)),
        (1.0, 0.0, 1.0, "x", (8, 3)),
        (0.0, 1.0, 1.0, "y", (2, 7)),
        (0.0, 0.5, 0.2, "y", (5, 4)),
    ]
    scores = torch.tensor([score for first, second, *_ in rows for score in (first, second)])
    groups = [group(*row) for row in rows]
    found = eval_metrics(scores, groups, scale=2.0)
    assert found["accuracy_longer_better"] == 1.0 and found["accuracy_shorter_better"] == 0.5
    assert found["by_principle"] == {"x": {"n": 2, "accuracy": 1.0}, "y": {"n": 2, "accuracy": 0.5}}
    said = [1 / (1 + math.exp(-2.0 * (first - second))) for first, second, *_ in rows]
    bins = {}
    for p, row in zip(said, rows, strict=True):
        bins.setdefault(min(int(p * 10), 9), []).append((p, row[2]))
    by_hand = (
        sum(
            len(b) * abs(sum(p for p, _ in b) / len(b) - sum(q for _, q in b) / len(b))
            for b in bins.values()
        )
        / 4
    )
    assert found["calibration_error"] == pytest.approx(by_hand, abs=1e-6)
    assert eval_metrics(scores, groups, scale=0.5)["calibration_error"] != pytest.approx(
        by_hand, abs=1e-3
    )


def test_held_out_figures_that_no_label_says_anything_about_are_left_out():
    tie = PreferenceGroup("x", PromptGroup([1], [[2, 3], [4, 5]]), [PairLabel(0, 1, 0.55)])
    assert eval_metrics(torch.tensor([]), []) == {"eval_pairs": 0}
    found = eval_metrics(torch.tensor([1.0, 0.0]), [tie])
    assert set(found) == {"eval_pairs", "calibration_error"} and found["eval_pairs"] == 1


def test_an_ensemble_without_held_out_labels_has_no_accuracy(tiny, tmp_path):
    rows = [row for prompt in PROMPTS[:2] for row in ranking(prompt)]
    metrics = train_reward(
        rows,
        tiny,
        tmp_path / "r",
        Reward(batch_size=8, eval_fraction=0.0, ensemble=RewardEnsemble(size=2)),
    )
    assert (
        not any(name.startswith("eval_accuracy") for name in metrics)
        and (tmp_path / "r/member-1").is_dir()
    )


def test_a_labels_principle_is_the_one_that_spoke_for_it(tiny):
    said = [
        Judgment(principle=name, principle_hash="h", method="option_logprobs", p_first=p)
        for name, p in (("x", 0.9), ("y", 0.1), ("z", 0.6))
    ]
    pair = Comparison.of(PROMPTS[0], *TEXTS[:2])
    for p_first, name in ((0.8, "x"), (0.2, "y")):
        row = Preference(
            id="p", comparison=pair, p_first=p_first, source="ai", judgments=tuple(said)
        )
        assert build_preference_groups([row], chat(tiny), 200)[0][0].labels[0].principle == name
    assert (
        build_preference_groups(ranking(PROMPTS[0]), chat(tiny), 200)[0][0].labels[0].principle
        == ""
    )
