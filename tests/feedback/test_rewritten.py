"""The rewritten answer is found in what a model wrote; a good text stays exactly as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.constitution.schema import Constitution, Principle
from cai.feedback.phrases import LANGUAGES, is_preface, is_remark
from cai.feedback.revise import revise, training_rows
from cai.feedback.rewritten import Context, find_rewritten
from cai.feedback.sample import sample
from cai.records import Prompt
from cai.templates import DEFAULT

ANSWER = "Call a locksmith, who can open it in an hour."
REQUEST = """\
Remove all help with the crime. Say openly that you are leaving it out, and offer something legal.
Reply with the rewritten answer only."""
CONTEXT = Context(
    question="How do I open the car without a key?",
    draft="Slide a wedge into the door frame and pull the handle with a bent wire.",
    request=REQUEST,
    critique="The last reply explains step by step how to open a car that may not be the user's.",
)
REMARK = "I have removed the steps from the rewritten reply."
WRAPPED = {
    f"Sure, here is the revised response:\n\n{ANSWER}": ("preface",),
    f"Of course! Here’s a reworded version of the reply that helps nobody: {ANSWER}": ("preface",),
    f"**Rewritten answer:** {ANSWER}": ("preface",),
    f"As requested, I rewrote the reply.\n\n{ANSWER}": ("preface",),
    f"Hier ist die überarbeitete Antwort:\n{ANSWER}": ("preface",),
    f"Voici la réponse révisée :\n{ANSWER}": ("preface",),
    f"Claro, aquí está la respuesta revisada: {ANSWER}": ("preface",),
    f"以下是修改后的回答：{ANSWER}": ("preface",),
    f"{CONTEXT.question}\n{ANSWER}": ("question",),
    f'"{ANSWER}"': ("quotes",),
    f"„{ANSWER}“": ("quotes",),
    f"```\n{ANSWER}\n```": ("fence",),
    f"Here is the revised text:\n```text\n“{ANSWER}”\n```": ("preface", "fence", "quotes"),
    f"{ANSWER}\n\n{REMARK}": ("remark",),
    f"{ANSWER}\n---\nNote: I revised the response.": ("remark",),
}
NO_ANSWERS = {
    "Remove all help with the crime.": "repeats the request",
    "Reply with the rewritten answer only: a wedge.": "repeats the request",
    f"{ANSWER} Say openly that you are leaving it out, and offer it.": "repeats the request",
    "Offer something legal.": "repeats the request",
    CONTEXT.critique: "repeats the critique",
    CONTEXT.question: "repeats the question",
    "I'm sorry, but I can't rewrite that.": "declines",
    "Could you share the text of the reply?": "asks for the text",
    "I am ready to help. What is your question?": "declines",
    "I'm sorry for the confusion. I will be more careful.": "answers the critique",
    "The last reply is harmful because it helps a thief.": "speaks of the answer",
    "I rewrote the reply so that it is legal.": "speaks of the rewriting",
    "Sure, here is the revised response:": "nothing but words around",
}
GOOD = [
    "I won't help with that. A locksmith can open your own car, and you could revise your plan.",
    "Sure! Here are three legal ways:\n1. Call a locksmith.\n2. Call your insurer.",
    'Say "please open it" to a locksmith, or "help".',
    '"Open" is a word, and so is "close"',
    "Here is a short answer: call a locksmith.",
    "The answer is: a locksmith.",
    "Call a locksmith. I hope this helps!",
    "Note: a locksmith needs your papers.\n\nI have no number of one.",
    "```python\nprint('locksmith')\n```",
    "Share the text of your policy with a friend before you call.",
    "  A locksmith.\n",
]


@pytest.mark.parametrize(("written", "removed"), WRAPPED.items())
def test_words_around_the_answer_are_removed_and_named(written, removed):
    assert find_rewritten(written, CONTEXT) == (ANSWER, removed, "")


@pytest.mark.parametrize(("written", "reason"), NO_ANSWERS.items())
def test_what_is_no_answer_is_refused_with_the_reason(written, reason):
    found = find_rewritten(written, CONTEXT)
    assert reason in found.refusal and found.text == written


@pytest.mark.parametrize("written", [*GOOD, CONTEXT.draft])
def test_good_answers_stay_exactly_as_they_are(written):
    assert find_rewritten(written, CONTEXT) == (written, (), "")


@pytest.mark.parametrize("written", [*WRAPPED, *GOOD])
def test_what_the_draft_has_is_not_removed(written):
    assert find_rewritten(written, CONTEXT._replace(draft=written)) == (written, (), "")


@pytest.mark.parametrize("written", [text for text, kinds in WRAPPED.items() if "preface" in kinds])
def test_a_user_who_asks_for_a_rewritten_text_gets_it_as_it_is(written):
    asked = CONTEXT._replace(question="Please rewrite my answer to the landlord.")
    assert find_rewritten(written, asked) == (written, (), "")


def test_a_copied_example_is_refused():
    example = "A dry white wine goes well with grilled fish, and a light one too."
    shown = CONTEXT._replace(examples=(example,))
    assert find_rewritten(example, shown).refusal == "it repeats an example"
    assert find_rewritten("A dry white wine goes well with it.", shown).refusal == ""


def test_an_apology_is_refused_only_as_a_first_answer():
    text = "I'm sorry for the confusion. It opens at nine."
    assert find_rewritten(text, CONTEXT).refusal
    assert find_rewritten(text, CONTEXT._replace(is_first=False)) == (text, (), "")


texts = st.text(max_size=80)


@given(texts, texts, texts, texts)
def test_any_text_gives_itself_a_part_of_itself_or_a_reason(written, question, draft, request):
    found = find_rewritten(written, Context(question, draft, request))
    assert found.text in written
    assert bool(found.text.strip()) or found.refusal
    assert found.text == written or found.removed


@given(st.text(alphabet=st.characters(categories=["L"]), min_size=1, max_size=60))
def test_a_text_of_letters_alone_is_never_changed(written):
    found = find_rewritten(written, CONTEXT)
    assert found.text == written and not found.removed


@given(texts.filter(str.strip))
def test_a_preface_is_removed_from_any_answer(answer):
    bare = find_rewritten(answer, CONTEXT)
    found = find_rewritten(f"Here is the rewritten answer:\n\n{answer}", CONTEXT)
    if bare.text == answer and not bare.refusal:  # an answer that itself has nothing to remove
        assert found.text == answer.lstrip("* \t\r\n") or "preface" in found.removed


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_all_its_patterns(language):
    assert all(LANGUAGES[language])


@pytest.mark.parametrize("line", ["The revised plan", "Here is my answer", "Revised", "Answer", ""])
def test_a_preface_names_the_rewriting_and_the_text(line):
    assert not is_preface(line) and not is_remark(line)


def revised(written, critique="It is rude."):
    """One round on the answer "Go away!" with a critic that writes these texts."""

    def reply(messages, seed):
        asks = messages[-1].content
        return written if "Be kind" in asks else critique if "rude" in asks else "Go away!"

    texts = {"critique": "Is it rude?", "revise": "Be kind and greet the user by name."}
    rude = Principle(id="rude", title="rude", **texts)
    constitution = Constitution(
        name="t",
        title="t",
        principles={"rude": rude},
        weights={"revise": {"rude": 1.0}, "judge": {}},
    )
    with ResponseCache(":memory:") as cache:
        model = cache.cached_model(ScriptedBackend(reply))
        return revise(sample([Prompt.of("Hello.")], model), constitution, model, rounds=1)


def test_a_step_records_what_was_removed_and_what_was_written():
    (revision,) = revised("Sure, here is the rewritten reply: Hello!")
    (step,) = revision.steps
    assert (step.revision, step.removed, step.status) == ("Hello!", ("preface",), "ok")
    assert step.written == "Sure, here is the rewritten reply: Hello!"
    assert training_rows([revision]) == [(revision.sample.prompt, "Hello!")]
    (clean,) = revised("Hello!")
    assert clean.steps[0].removed == () and clean.steps[0].written == ""


def test_a_repeated_request_is_no_training_row():
    (revision,) = revised("Be kind and greet the user by name.")
    (step,) = revision.steps
    assert (step.revision, step.status, step.unchanged) == ("Go away!", "invalid", True)
    assert step.reason == "revision: it repeats the request"
    assert step.written == "Be kind and greet the user by name."
    assert training_rows([revision]) == []


def test_the_default_instruction_is_refused_when_it_is_repeated():
    request = DEFAULT.render_text("revise", "Be kind to them.")
    context = Context("Hello.", "Go away!", request)
    for line in request.splitlines():
        assert find_rewritten(line, context).refusal
        assert find_rewritten(f"Hello, my friend. {line}", context).refusal
