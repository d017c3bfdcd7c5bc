"""``cai preview`` prints what a model reads, and the file of each template."""

import pytest
import typer

from cai.cli.preview import preview
from cai.errors import InputError

PRINCIPLE = (
    "title: A\ncritique: Find an insult.\nrevise: Remove it.\ncompare: Which has no insult?\n"
)


@pytest.fixture
def shown(capsys):
    """Runs the command with some options and returns what it prints."""

    def run(constitution, pattern="*", prompt_text="How do I mend a bike?", model=None):
        preview(constitution, pattern, prompt_text, model)
        return capsys.readouterr().out

    return run


def test_preview_shows_default_templates_with_their_files(shown, root, monkeypatch):
    monkeypatch.chdir(root)
    text = shown("harmless", "harm/insult")
    assert text.startswith("constitution constitution/harmless.yaml (23 principles, ")
    assert "--- critique request (cai/templates/critique.jinja)\nQuote " in text
    assert "--- revision request (cai/templates/revise.jinja)\n" in text
    assert "(critique; cai/templates/judge_critique.jinja; options Yes / No)" in text
    assert "(option_logprobs; cai/templates/judge_delimited.jinja; options A / B)" in text
    assert "reply A>\n<the first answer>\n</" in text
    assert "=== harm/crime" not in text


def test_preview_shows_the_templates_of_a_model(shown):
    text = shown("letter", "respect", model="reference")
    assert "Here is a rule for good replies: Treat the person" in text
    assert "options Problem / No problem" in text
    assert "cai/templates" not in text.replace("reference/templates", "")


def test_preview_of_a_run_file_shows_its_models_and_judge(shown, root):
    text = shown(str(root / "examples/quickstart.yaml"), "reference/insult")
    assert "critic reference: reference templates; judge reference: reference templates" in text
    expected = (
        "Say whether the last reply has mean words about a person.\n"
        'Begin with "Problem" and quote the sentence, or with "No problem".\n'
    )
    assert text.count(expected) == 2, "as a critique request, and as the judge's"
    assert "option_logprobs" not in text
    with pytest.raises(InputError, match="names its own models"):
        shown(str(root / "examples/quickstart.yaml"), model="reference")


def test_preview_shows_which_template_is_the_projects_own(shown, tmp_path, monkeypatch):
    for name in ("principles", "constitution", "templates"):
        (tmp_path / name).mkdir()
    (tmp_path / "principles/insult.yaml").write_text(PRINCIPLE)
    (tmp_path / "constitution/mine.yaml").write_text(
        "title: M\nrevise: {principles: [insult]}\njudge: {principles: [insult]}\n"
    )
    (tmp_path / "templates/revise.jinja").write_text("{{ text }} Now!\n")
    monkeypatch.chdir(tmp_path)
    text = shown("mine")
    assert "--- revision request (templates/revise.jinja)\nRemove it. Now!\n" in text
    assert "--- critique request (templates" not in text


def test_preview_of_an_unknown_principle_suggests_one(shown):
    with pytest.raises(InputError, match="did you mean 'reference/insult'"):
        shown("reference", "reference/insults")


def test_preview_has_short_help():
    command = typer.main.get_command(_app())
    assert command.get_short_help_str(60) == "Print the exact texts that a model reads."


def _app():
    app = typer.Typer()
    app.command()(preview)
    return app
