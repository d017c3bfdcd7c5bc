"""Prompt templates: two shipped sets, chosen by the model, and a project's own over both."""

import json
import shutil
from pathlib import Path

import pytest

from cai import shipped
from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.constitution import load_constitution
from cai.constitution.diff import template_changes
from cai.constitution.lint import check
from cai.constitution.lock import read_lock, write_lock
from cai.errors import InputError
from cai.feedback.few_shot import FewShotComparison
from cai.feedback.judge import judge
from cai.feedback.judge_methods import PairwiseLogprobs
from cai.feedback.requests import (
    comparison_request,
    critique_request,
    problem_request,
    revision_request,
)
from cai.records import Comparison, Prompt
from cai.templates import DEFAULT, NAMES, REFERENCE, Templates, template_path, template_set
from cai.templates.prompts import VARIABLES

PAIR = Comparison.of(Prompt.of("How do I mend the bike?"), "good advice", "bad advice")
PRINCIPLE = (
    "title: A\ncritique: Find an insult.\nrevise: Remove it.\ncompare: Which has no insult?\n"
)
# the reference model was trained on these wordings; another one needs another model
REFERENCE_HASHES = {
    "critique": "50b4e38781dfe322",
    "revise": "9e9d8911e7686f64",
    "judge": "3b771bb763b47c12",
    "judge_chain_of_thought": "e2b8ae1ef9ce516b",
    "judge_critique": "50b4e38781dfe322",
    "judge_delimited": "c6d78b0108a65bff",
    "rate": "924bdaab922e9b05",
    "rubric": "a4f3d74c8686bc9e",
    "together_critique": "e03a12e283dd38f3",
    "together_compare": "685c5ff208f818d2",
    "prose_critique": "61a63fac0c9a7927",
    "prose_revise": "8a7f61490b32260c",
    "prose_compare": "a8b81354d32caa88",
}


@pytest.fixture
def project(tmp_path):
    """A project with one principle and an empty folder of templates."""
    for name in ("principles", "constitution", "templates"):
        (tmp_path / name).mkdir()
    (tmp_path / "principles/insult.yaml").write_text(PRINCIPLE)
    (tmp_path / "constitution/mine.yaml").write_text(
        "title: M\nrevise: {principles: [insult]}\njudge: {principles: [insult]}\n"
    )
    return tmp_path


def load(project: Path):
    return load_constitution(project / "constitution/mine.yaml")


def scripted(score_options):
    backend = ScriptedBackend(score_options=score_options)
    return ResponseCache(":memory:").cached_model(backend)


# -- the shipped sets


def test_reference_templates_are_those_of_the_training():
    assert {name: REFERENCE.hash(name) for name in NAMES} == REFERENCE_HASHES


def test_critique_odds_of_the_reference_model_read_its_critique():
    assert REFERENCE.source("judge_critique") == REFERENCE.source("critique")
    assert REFERENCE.options("judge_critique") == ("Problem", "No problem")


@pytest.mark.parametrize("name", NAMES)
def test_default_templates_are_worded_for_any_model(name):
    assert template_path("default", name) != template_path("reference", name)
    assert '"Problem"' not in DEFAULT.source(name)
    assert DEFAULT.source(name) != REFERENCE.source(name)


def test_every_template_file_is_listed():
    for folder in (Path(template_path("default", "judge")).parent, shipped.reference_templates()):
        files = {path.stem for path in folder.glob("*.jinja")}
        fixed = {name for name in files if name.startswith("choice")}  # no user replaces them
        assert files - fixed - {"transcript", "answer_alone"} == set(NAMES)  # parts, no prompts


@pytest.mark.parametrize("base", ["default", "reference"])
def test_shipped_templates_pass_their_own_check(project, base):
    # the reference model was not taught to read delimiters, and is shown none
    names = set(NAMES) - ({"judge_delimited"} if base == "reference" else set())
    for name in names:
        shutil.copy(template_path(base, name), project / "templates")
    assert load(project).templates.keys() == names


# -- the model chooses


def test_template_set_is_chosen_by_the_model(tiny, tmp_path):
    from cai.backends.local import LocalBackend

    assert template_set("reference") == "reference"
    assert template_set("organization/model") == "default"
    assert template_set(tiny) == "reference", "its tokenizer is the reference model's"
    other = Path(shutil.copytree(tiny, tmp_path / "other"))
    (other / "chat_template.jinja").write_text("{{ messages }}")
    assert template_set(str(other)) == "default"
    cache = ResponseCache(":memory:")
    assert Templates.for_model(cache.cached_model(LocalBackend(tiny))) == REFERENCE
    assert Templates.for_model(cache.cached_model(LocalBackend(str(other)))) == DEFAULT
    assert Templates.for_model(cache.cached_model(ScriptedBackend())) == DEFAULT


def test_prose_is_worded_for_the_model_that_reads_it(root):
    constitution = load_constitution(root / "constitution/letter.md")
    default = constitution.principles["respect"]
    assert (default.critique or "").startswith("A good reply follows this principle: Treat")
    reference = constitution.principles_for(REFERENCE)["respect"]
    assert (reference.critique or "").startswith("Here is a rule for good replies: Treat")
    assert constitution.principles_for(DEFAULT) == constitution.principles


# -- a project's own


def test_own_template_wins_by_file_name(project):
    before = load(project)
    (project / "templates/critique.jinja").write_text("Criticize! {{ text }}\n")
    (project / "templates/README.md").write_text("Ours.\n")
    constitution = load(project)
    principle = constitution.principles["insult"]
    for base in (DEFAULT, REFERENCE):
        templates = Templates(base.base, constitution.templates)
        asked = critique_request(principle, PAIR.prompt, templates).content
        assert asked == "Criticize! Find an insult."
        assert revision_request(principle, PAIR.prompt, templates) == revision_request(
            principle, PAIR.prompt, base
        )
    assert constitution.hash != before.hash
    assert template_changes(before, constitution) == ["critique"]
    (project / "templates/critique.jinja").write_text("Criticize: {{ text }}\n")
    assert load(project).hash not in (before.hash, constitution.hash)


def test_judgment_records_the_template_that_asked(project):
    (project / "templates/judge.jinja").write_text(
        "{{ conversation[0].content }} {{ first }} or {{ second }}? {{ text }}\n"
    )
    constitution = load(project)
    prompts = []

    def logprobs(messages, options):
        prompts.append(messages[-1].content)
        return (0.0, -1.0)

    (label,) = judge([PAIR], constitution, scripted(logprobs), "option_logprobs")
    assert label.judgments[0].template == DEFAULT.hash("judge_delimited"), "this one is shipped"
    (label,) = judge([PAIR], constitution, scripted(logprobs), PairwiseLogprobs())
    own = Templates("default", constitution.templates)
    assert label.judgments[0].template == own.hash("judge") != DEFAULT.hash("judge")
    expected = "How do I mend the bike? bad advice or good advice? Which has no insult?"
    assert prompts[-1] == expected


def test_critique_odds_ask_for_the_options_of_the_template(project):
    (project / "templates/judge_critique.jinja").write_text(
        "{% set options = ['Ja', 'Nein'] %}\n{{ text }} Ja oder Nein?\n"
    )
    offered = []

    def logprobs(messages, options):
        offered.append((messages[-1].content, options))
        return (0.0, 0.0)

    judge([PAIR], load(project), scripted(logprobs), "critique")
    judge([PAIR], load_constitution("harmless"), scripted(logprobs), "critique")
    assert offered[0] == ("Find an insult. Ja oder Nein?", ("Ja", "Nein"))
    assert offered[2][1] == ("Yes", "No")


def test_a_template_names_its_options_and_begins_the_answer(project):
    (project / "templates/judge.jinja").write_text(
        "{% set options = [' 1', ' 2'] %}\n{% set answer = 'Better is' %}\n"
        "{{ conversation[0].content }} 1: {{ first }} 2: {{ second }} {{ text }}\n"
    )
    constitution = load(project)
    templates = Templates("default", constitution.templates)
    example = Comparison.of(Prompt.of("Other?"), "well", "badly")
    principle = constitution.principles["insult"]
    method = PairwiseLogprobs(few_shot=[FewShotComparison(example, principle, "B")])
    request = method.requests(PAIR, principle, templates)[0]
    assert (request.options, request.answer_prefix) == ((" 1", " 2"), "Better is")
    assert request.messages[1].content == "Better is 2"
    (default,) = PairwiseLogprobs(swap_positions=False).requests(PAIR, principle, DEFAULT)
    assert (default.options, default.answer_prefix) == (("A", "B"), "The answer is: (")
    (own,) = PairwiseLogprobs(swap_positions=False).requests(PAIR, principle, REFERENCE)
    assert (own.options, own.answer_prefix) == (("A", "B"), "")


def test_prose_reads_the_templates_of_its_project(project):
    (project / "constitution/letter.md").write_text("## Be kind\nAlways be kind.\n")
    (project / "templates/prose_compare.jinja").write_text("By {{ text }}: A or B?\n")
    constitution = load_constitution(project / "constitution/letter.md")
    assert constitution.principles["be-kind"].compare == "By Always be kind.: A or B?"


def test_lock_keeps_own_templates(project, tmp_path):
    (project / "templates/revise.jinja").write_text("{{ text }} Now.\n")
    constitution = load(project)
    write_lock(constitution, tmp_path / "lock.yaml")
    assert read_lock(tmp_path / "lock.yaml") == constitution
    assert read_lock(tmp_path / "lock.yaml").hash == constitution.hash


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("judg.jinja", "x", "is not the name of a template (did you mean 'judge'?); templates are"),
        ("judge.txt", "x", "is not the name of a template (did you mean 'judge'?)"),
        ("revise.jinja", "a\n{{ text", "2:1: invalid template: unexpected end of template"),
        ("revise.jinja", "a\n\n{{ txt }} {{ text }}", "3:1: unknown variable 'txt' (did you mean"),
        ("judge.jinja", "{{ conversation }} {{ first }} {{ text }}", "1:1: never shows {{ second"),
        ("revise.jinja", "{{ text }}\n{{ text.title.x }}", "2:1: cannot be filled: "),
        ("revise.jinja", "{{ text }}\n{{ 1 / 0 }}", "2:1: cannot be filled: "),
        ("revise.jinja", "{% include 'judge' %}{{ text }}", "1:1: cannot be filled: "),
        ("judge_critique.jinja", "{% set options = ['a'] %}{{ text }}", "1:1: options must be two"),
        ("judge_critique.jinja", "{% set options = ['a', ' a'] %}{{ text }}", "1:1: options must"),
        ("judge_critique.jinja", "{% set options = 'ab' %}{{ text }}", "1:1: options must be two"),
        (
            "judge_critique.jinja",
            "{% set options = [' Yes', ' No'] %}{{ text }}",
            "1:1: options may begin with a space only after {% set answer %}",
        ),
        (
            "judge_critique.jinja",
            "{% set answer = 'The answer is: ' %}{{ text }}",
            "1:1: answer must not end with a space",
        ),
        ("judge_critique.jinja", "{% set answer = 3 %}{{ text }}", "1:1: answer must be a text"),
    ],
)
def test_bad_templates_are_refused_in_one_line(project, name, source, expected):
    (project / "templates" / name).write_text(source)
    with pytest.raises(InputError) as caught:
        load(project)
    lines = [str(problem) for problem in caught.value.problems]
    (line,) = [text for text in lines if f"templates/{name}:" in text]
    assert line.partition(f"templates/{name}:")[2].strip().startswith(expected)
    assert list(map(str, check([project / "constitution"]).problems)) == lines


def test_a_template_outside_of_the_project_is_not_read(project):
    outside = project.parent / f"{project.name}-outside.jinja"
    outside.write_text("{{ text }}")
    (project / "templates/revise.jinja").symlink_to(outside)
    with pytest.raises(InputError, match="is a link to a file outside of this folder"):
        load(project)


def test_check_counts_templates_among_its_files(project):
    (project / "templates/revise.jinja").write_text("{{ text }}\n")
    files = [path.name for path in check([project / "constitution"]).files]
    assert files == ["mine.yaml", "insult.yaml", "revise.jinja"]


def test_a_failure_while_filling_names_the_template():
    templates = Templates("default", {"judge": "{{ conversation[2].content }}{{ first }}"})
    values = json.loads('{"conversation": [], "first": "a", "second": "b", "text": "c"}')
    with pytest.raises(InputError, match=r"^templates/judge\.jinja: list object has no element 2"):
        templates.render("judge", **values)


def test_braces_in_anyones_text_stay_what_they_are():
    text = "{{ 7 * 7 }} {% if x %} {# no #}"
    principle = load_constitution("general").principles["general/humanity"]
    hostile = principle.model_copy(update={"critique": text, "revise": text, "compare": text})
    pair = Comparison.of(Prompt.of(text), text, text + "!")
    for templates in (DEFAULT, REFERENCE):
        for asked in (
            critique_request(hostile, pair.prompt, templates),
            problem_request(hostile, pair.prompt, text, templates).messages[-1],
            comparison_request(pair, hostile, templates, delimiters=True),
        ):
            assert text in asked.content


@pytest.mark.parametrize("chain_of_thought", [False, True])
def test_the_reference_model_reads_comparisons_in_the_one_way_that_it_learned(chain_of_thought):
    principle = load_constitution("reference").principles["reference/insult"]
    pair = Comparison.of(Prompt.of("Mock Ellen."), "Ellen is a fool.", "I will not.")
    plain, delimited = (
        comparison_request(
            pair, principle, REFERENCE, delimiters=delimiters, chain_of_thought=chain_of_thought
        )
        for delimiters in (False, True)
    )
    assert delimited.content == plain.content


def test_variables_are_named_for_every_template():
    assert set(VARIABLES) == set(NAMES)
    assert all(VARIABLES.values())


LOOPS = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (LOOPS, "it loops for more than 500,000 steps"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "maximum recursion depth"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
    ],
)
def test_a_template_without_end_is_stopped(project, source, says):
    path = project / "templates/critique.jinja"
    path.write_text(f"{{{{ text }}}}\n{source}")
    (problem,) = check([project / "constitution"]).problems
    assert ":2:1: cannot be filled: " in str(problem) and says in str(problem)


def test_a_loop_that_depends_on_the_text_is_stopped(project):
    (project / "templates/critique.jinja").write_text(
        "{% if 'insult' in text %}" + LOOPS + "{% endif %}{{ text }}"
    )
    constitution = load(project)
    with pytest.raises(InputError, match=r"templates/critique\.jinja: it loops for more than"):
        critique_request(
            constitution.principles["insult"],
            PAIR.prompt,
            Templates("default", constitution.templates),
        )
