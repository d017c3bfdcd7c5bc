"""Examples of critique and revision: inherited, shown in order, as many as asked for."""

import pytest

from cai import Prompt, ResponseCache, revise, sample
from cai.backends.scripted import ScriptedBackend
from cai.constitution import load_constitution
from cai.feedback.requests import begun_answer, revision_examples
from cai.feedback.rewritten import Context, find_rewritten
from cai.templates import DEFAULT, REFERENCE, Templates


@pytest.fixture(scope="module")
def harmless():
    return load_constitution("harmless")


def test_a_constitution_shows_the_examples_of_those_it_includes_before_its_own(tmp_path, root):
    (tmp_path / "principles/a").mkdir(parents=True)
    rule = "title: A\ncritique: Find it.\nrevise: Leave it out.\ncompare: Which has less?\n"
    (tmp_path / "principles/a/b.yaml").write_text(rule)
    (tmp_path / "constitution").mkdir()
    shot = "{{prompt: {0}, answer: x, principle: a/b, critique: y, revision: z}}"
    first, second = (f"few_shot: [{shot.format(name)}]\n" for name in ("one", "two"))
    used = "revise: {principles: [a/*]}\n"
    (tmp_path / "constitution/base.yaml").write_text("title: Base\n" + used + first)
    path = tmp_path / "constitution/mine.yaml"
    path.write_text("title: Mine\ninclude: [base, base]\n" + used + second)
    loaded = load_constitution(path)
    assert [example.prompt for example in loaded.few_shot] == ["one", "two"]
    assert [e.prompt for e in loaded.with_examples(1).few_shot] == ["one"]
    assert loaded.with_examples(None) == loaded and loaded.with_examples(0).few_shot == ()


def test_the_default_constitutions_ship_examples(harmless):
    assert len(harmless.few_shot) == 4
    assert load_constitution("helpful-honest-harmless").few_shot == harmless.few_shot
    # the reference model was trained without any
    assert load_constitution("reference").few_shot == ()


def test_shipped_examples_are_what_a_critic_should_write(harmless):
    begun = DEFAULT.answer_prefix("critique")
    turns = revision_examples(harmless, direct=False)
    for i, example in enumerate(harmless.few_shot):
        question, answer, asked, critique, request, revision = turns[6 * i : 6 * i + 6]
        assert [t.role for t in turns[6 * i : 6 * i + 6]] == ["user", "assistant"] * 3
        assert begun and critique.content.startswith(begun + " ")
        assert asked.content.startswith(harmless.principles[example.principle].critique)
        context = Context(question.content, answer.content, request.content, critique.content)
        assert find_rewritten(revision.content, context) == (example.revision, (), "")
        used = harmless.principles[example.principle].examples
        assert example.prompt not in [one.prompt for one in used]


def test_removing_a_principle_removes_its_examples(harmless):
    without = harmless.without(harmless.few_shot[0].principle)
    assert without.few_shot == harmless.few_shot[1:]
    assert len(revision_examples(without, direct=True)) == 4 * 3


def test_a_set_with_principles_of_its_own_is_revised_after_their_examples_alone(harmless):
    own = harmless.few_shot[1]
    sets = {"style": (own.principle,)}
    constitution = harmless.model_copy(update={"prompt_sets": sets})
    assert constitution.few_shot_for("style") == (own,)
    assert constitution.few_shot_for("red_team") == harmless.few_shot
    asked = []

    def reply(messages, _seed):
        asked.append(messages)
        return "Fine."

    model = ResponseCache(":memory:").cached_model(ScriptedBackend(reply))
    for kind, shown in (("style", 1), ("red_team", 4)):
        asked.clear()
        samples = sample([Prompt.of("Hello.", kind=kind)], model)
        revise(samples, constitution, model, rounds=1, direct=True)
        assert len(asked[-1]) == 4 * shown + 3


@pytest.mark.parametrize(
    ("continuation", "critique"),
    [
        ("is rude.", "The last reply is rude."),
        (" is rude.", "The last reply is rude."),
        (", in short, is rude.", "The last reply, in short, is rude."),
        ("It is rude.", "It is rude."),
        ("", ""),
        (" ", " "),
    ],
)
def test_a_critique_has_the_beginning_that_it_continues(continuation, critique):
    templates = Templates(overrides={"critique": '{% set answer = "The last reply" %}{{ text }}'})
    assert begun_answer(templates, "critique", continuation) == critique
    assert begun_answer(REFERENCE, "critique", continuation) == continuation
