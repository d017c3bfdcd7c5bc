"""sample, revise, compare, judge against a scripted model whose answers are known."""

import math
import re
from pathlib import Path

import pytest

from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.constitution.schema import Constitution, FewShotRevision, Principle
from cai.feedback.compare import compare
from cai.feedback.judge import combine_judgments, judge
from cai.feedback.judge_methods import CritiqueOdds, PairwiseLogprobs
from cai.feedback.revise import revise, training_rows
from cai.feedback.sample import sample
from cai.feedback.sampled_verdicts import ChainOfThought
from cai.records import Comparison, Judgment, Message, Preference, Prompt
from cai.templates import DEFAULT, REFERENCE


def principle(name):
    return Principle(
        id=name,
        title=name,
        critique=f"Does it {name}?",
        revise=f"Rewrite without {name}.",
        compare=f"Which does less {name}?",
    )


def constitution(**weights):
    principles = {name: principle(name) for name in weights}
    return Constitution(
        name="t", title="T", principles=principles, weights={"revise": weights, "judge": weights}
    )


@pytest.fixture
def cached_model(tmp_path):
    caches = []

    def make(reply=None, weigh=None, name="scripted"):
        caches.append(ResponseCache(Path(tmp_path / "responses.sqlite")))
        return caches[-1].cached_model(ScriptedBackend(reply, weigh, name))

    return make


PROMPTS = [Prompt.of(f"question {i}") for i in range(12)]


def echo(messages, seed):
    return f"answer {seed % 1000} to {messages[-1].content}"


def test_sampling_does_not_depend_on_order_or_number(cached_model):
    model = cached_model(echo)
    samples = {(s.prompt.id, s.draw): s for s in sample(PROMPTS, model, n=3, seed=1)}
    again = sample(PROMPTS[5:2:-1], model, n=2, seed=1)
    assert all(samples[s.prompt.id, s.draw] == s for s in again)
    assert model.cache.usage[""].requests == 36 and model.cache.usage[""].cached == 6
    assert sample(PROMPTS, model, seed=2)[0].response != samples[PROMPTS[0].id, 0].response


def test_empty_answers_have_a_status_and_are_not_revised(cached_model):
    model = cached_model(lambda messages, seed: "")
    samples = sample(PROMPTS[:2], model)
    assert [s.status for s in samples] == ["empty", "empty"]
    assert revise(samples, constitution(x=1.0), model) == []


def reviser(messages, seed):
    """Criticises and revises so that a text tells its whole history."""
    last = messages[-1].content
    if last.startswith("Does it"):
        return f"Found {re.search('it (.+)[?]', last)[1]}"
    if last.startswith("Rewrite"):
        name = re.search("without (.+)[.]", last)[1]
        assert messages[-2].content == f"Found {name}" or messages[-2].role == "assistant"
        return f"{messages[1].content if messages[0].role == 'user' else ''}+{name}"
    return "draft"


def test_each_round_revises_the_reply_of_the_round_before(cached_model):
    model = cached_model(reviser)
    revisions = revise(sample(PROMPTS, model), constitution(x=1.0, y=1.0), model, rounds=4, seed=3)
    for revision in revisions:
        text = "draft"
        for step in revision.steps:
            assert step.critique == f"Found {step.principle}"
            text += f"+{step.principle}"
            assert step.revision == text and not step.unchanged
        assert revision.final == text and len(revision.steps) == 4
    drawn = [step.principle for r in revisions for step in r.steps]
    assert {"x", "y"} == set(drawn)


def test_adding_a_principle_moves_only_what_it_wins(cached_model):
    model = cached_model(reviser)
    drafts = sample(PROMPTS, model)
    before = revise(drafts, constitution(x=1.0, y=1.0), model, rounds=1)
    after = revise(drafts, constitution(x=1.0, y=1.0, z=1.0), model, rounds=1)
    for one, other in zip(before, after, strict=True):
        assert other.steps[0].principle in ("z", one.steps[0].principle)


def test_direct_revision_asks_for_no_critique(cached_model):
    model = cached_model(reviser)
    revisions = revise(sample(PROMPTS, model), constitution(x=1.0), model, rounds=2, direct=True)
    assert all(step.critique == "" for r in revisions for step in r.steps)
    assert revisions[0].final == "draft+x+x"


def test_revise_keeps_the_response_after_a_failure(cached_model):
    def reply(messages, seed):
        last = messages[-1].content
        return (
            "" if "without x" in last else messages[1].content if "without y" in last else "draft"
        )

    model = cached_model(reply)
    drafts = sample(PROMPTS, model)
    failed = revise(drafts, constitution(x=1.0), model, rounds=2)
    assert (
        all(s.status == "empty" and s.revision == "draft" for r in failed for s in r.steps)
        and failed[0].final == "draft"
    )
    copied = revise(drafts, constitution(y=1.0), model, rounds=1)
    assert all(s.unchanged and s.status == "ok" for r in copied for s in r.steps)


def test_revise_few_shot_comes_before_the_conversation(cached_model):
    prompts = []

    def reply(messages, seed):
        prompts.append([m.content for m in messages])
        return "draft"

    shot = FewShotRevision(
        prompt="shot prompt",
        answer="shot answer",
        principle="x",
        critique="shot critique",
        revision="shot revision",
    )
    with_shot = constitution(x=1.0).model_copy(update={"few_shot": (shot,)})
    turns = (
        Message(role="user", content="one"),
        Message(role="assistant", content="two"),
        Message(role="user", content="three"),
    )
    model = cached_model(reply)
    revise(sample([Prompt.of(turns)], model), with_shot, model, rounds=1)
    critique, revision = prompts[1], prompts[2]
    assert (
        critique[:2] == ["shot prompt", "shot answer"]
        and critique[3] == "shot critique"
        and critique[5] == "shot revision"
    )
    assert critique[6:10] == ["one", "two", "three", "draft"] and critique[10].startswith(
        "Does it x?"
    )
    assert revision[: len(critique)] == critique and revision[-1].startswith("Rewrite without x.")


def test_training_rows(cached_model):
    model = cached_model(reviser)
    revisions = revise(sample(PROMPTS[:1], model), constitution(x=1.0), model, rounds=3)
    texts = {
        rows: [text for _, text in training_rows(revisions, rows)]
        for rows in ("final", "all", "upto_2")
    }
    assert texts == {
        "final": ["draft+x+x+x"],
        "all": ["draft+x", "draft+x+x", "draft+x+x+x"],
        "upto_2": ["draft+x", "draft+x+x"],
    }


def test_compare_pairs_different_answers_in_both_orders(cached_model):
    model = cached_model(lambda messages, seed: f"{seed % 2}")
    samples = {"m": sample([Prompt.of(f"q{i}") for i in range(80)], model, n=2)}
    pairs = compare(samples)
    assert 20 < len(pairs) < 60 and all(c.first != c.second for c in pairs)
    assert 0.2 < sum(c.first == "0" for c in pairs) / len(pairs) < 0.8
    assert {c.id for c in compare({"m": samples["m"][::-1]})} <= {
        i for c in pairs for i in (c.id, c.swap().id)
    }


# -- the judge ---------------------------------------------------------------------------------------------------------

PAIRS = [Comparison.of(Prompt.of(f"q{i}"), f"good {i}", f"bad {i}") for i in range(6)]


def biased(messages, options):
    """Knows that "bad" is bad, but also likes whatever is called A: log-odds 2 for the truth, 1 for the place."""
    text = messages[-1].content
    first_is_good = "(A) good" in text
    return (2.0 * (1 if first_is_good else -1) + 1.0, 0.0)


def test_option_logprobs_average_both_orders(cached_model):
    both = judge(PAIRS, constitution(x=1.0), cached_model(weigh=biased), PairwiseLogprobs())
    single = judge(
        PAIRS,
        constitution(x=1.0),
        cached_model(weigh=biased),
        PairwiseLogprobs(swap_positions=False),
    )
    s = lambda z: 1 / (1 + math.exp(-z))  # noqa: E731
    assert both[0].p_first == pytest.approx((s(3) + 1 - s(-1)) / 2)
    assert single[0].p_first == pytest.approx(s(3))
    assert both[0].judgments[0].evidence == pytest.approx(
        {"p_A_order_1": s(3), "p_A_order_2": s(-1)}
    )
    swapped = judge(
        [p.swap() for p in PAIRS],
        constitution(x=1.0),
        cached_model(weigh=biased),
        PairwiseLogprobs(),
    )
    assert swapped[0].p_first == pytest.approx(1 - both[0].p_first)


def faulter(messages, options):
    answer = messages[-2].content
    return (0.0, -3.0) if answer.startswith("bad") else (-3.0, 0.0)


def test_critique_odds_ignore_order_and_tie_without_problem(cached_model):
    model = cached_model(weigh=faulter)
    labels = judge(PAIRS, constitution(x=1.0), model, CritiqueOdds())
    high, low = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(3))
    assert labels[0].p_first == pytest.approx((1 + high - low) / 2)
    mirrored = judge([p.swap() for p in PAIRS], constitution(x=1.0), model, CritiqueOdds())
    assert mirrored[0].p_first == pytest.approx(1 - labels[0].p_first)
    clean = [Comparison.of(Prompt.of("q"), "good a", "good b")]
    assert judge(clean, constitution(x=1.0), model, CritiqueOdds())[0].p_first == pytest.approx(0.5)


def test_unreadable_logprobs_are_unscored(cached_model):
    for bad in ((float("nan"), 0.0), (-math.inf, -math.inf)):
        labels = judge(
            PAIRS,
            constitution(x=1.0),
            cached_model(weigh=lambda m, o, bad=bad: bad, name=str(bad)),
            PairwiseLogprobs(),
        )
        assert all(p.p_first is None and p.status == "unscored" for p in labels)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("The answer is A", "The answer is B"), 0.6),
        (("The answer is B", "The answer is A"), 0.4),
        (("The answer is A", "The answer is A"), 0.5),
        (("I first thought the answer is B. No: the answer is (A).", "answer is: B"), 0.6),
        (("no verdict", "The answer is B"), None),
        (("The answer is C", "The answer is A"), None),
    ],
)
def test_chain_of_thought_is_clamped_or_unscored(cached_model, texts, expected):
    answers = iter(texts)
    model = cached_model(lambda messages, seed: next(answers), name=str(texts))
    label = judge(PAIRS[:1], constitution(x=1.0), model, ChainOfThought())[0]
    assert label.p_first == (None if expected is None else pytest.approx(expected))


def judgment(p):
    return Judgment(
        principle="x",
        principle_hash="h",
        method="m",
        p_first=p,
        status="ok" if p is not None else "unscored",
    )


def test_combine_judgments():
    judgments = [judgment(0.9), judgment(0.5), judgment(0.6), judgment(None)]
    assert combine_judgments(judgments, [1, 1, 1, 1], "mean") == pytest.approx(2.0 / 3)
    assert combine_judgments(judgments, [1, 1, 1, 1], "sum") == pytest.approx(1.0)
    assert combine_judgments([judgment(0.6), judgment(0.5)], [1, 1], "sum") == pytest.approx(0.6)
    assert combine_judgments(judgments, [2, 1, 1, 1], "vote") == pytest.approx((2 + 0.5 + 1) / 4)
    assert combine_judgments([judgment(None)], [1], "mean") is None


def test_judge_draws_one_principle_or_asks_all(cached_model):
    model = cached_model(weigh=faulter)
    drawn = judge(PAIRS, constitution(x=1.0, y=1.0, z=0.0), model, CritiqueOdds())
    assert {p.judgments[0].principle for p in drawn} == {"x", "y"} and all(
        len(p.judgments) == 1 for p in drawn
    )
    every = judge(PAIRS, constitution(x=1.0, y=1.0, z=0.0), model, CritiqueOdds(), principles=0)
    assert all(sorted(r.principle for r in p.judgments) == ["x", "y"] for p in every)


def test_swap_is_an_involution_and_status_is_enforced(cached_model):
    label = judge(PAIRS, constitution(x=1.0), cached_model(weigh=faulter), CritiqueOdds())[0]
    assert (
        label.swap().swap().p_first == pytest.approx(label.p_first)
        and label.swap().comparison.first == label.comparison.second
    )
    with pytest.raises(ValueError, match="either a label or a status"):
        Preference(id="i", comparison=PAIRS[0], p_first=None, status="ok", source="ai")


@pytest.mark.parametrize("templates", [DEFAULT, REFERENCE], ids=["default", "reference"])
def test_critique_odds_read_options_that_the_template_names(templates):
    request = templates.render("judge_critique", text="x")
    assert all(option in request for option in templates.options("judge_critique"))
