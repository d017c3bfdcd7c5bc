"""``cai preview``: the texts that a model reads."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import typer

from cai.backends.protocol import LoglikelihoodRequest
from cai.config import RunConfig, load_config
from cai.constitution import Constitution, Principle, load_constitution
from cai.constitution.kinds import RUN, kind_of_value
from cai.constitution.load import find_constitution, nearby, templates_folder
from cai.constitution.schema import Use
from cai.documents import load
from cai.errors import InputError, Problem, did_you_mean
from cai.feedback.judge_methods import JudgeMethod, judge_method
from cai.feedback.requests import critique_request, revision_request
from cai.models.names import find_model
from cai.records import Comparison, Prompt
from cai.templates import Templates, template_path, template_set

METHODS = ("critique", "option_logprobs")
"""The judge methods that are shown for a constitution without a run file."""


@dataclass(frozen=True)
class _Subject:
    """What to show: a constitution, the models that read it, and how the judge is asked.

    Attributes:
        source: The file of the constitution.
        constitution: The constitution.
        critic: The templates of the critic.
        judges: The different templates of the judges.
        methods: How the judge is asked.
        models: The critic and the judges by name; without a run file, the model of ``--model``.
    """

    source: Path
    constitution: Constitution
    critic: Templates
    judges: Sequence[Templates]
    methods: Sequence[JudgeMethod]
    models: str


def preview(
    constitution: Annotated[str, typer.Argument(help="A constitution (name or file) or run file.")],
    pattern: Annotated[
        str, typer.Argument(metavar="[PRINCIPLE]", help="Glob over principle ids.")
    ] = "*",
    prompt_text: Annotated[
        str, typer.Option("--prompt", help="The prompt to show the texts with.")
    ] = "How do I mend a bike?",
    model: Annotated[
        str | None,
        typer.Option(help="Show the templates of this model; a run file names its own."),
    ] = None,
) -> None:
    """Print the exact texts that a model reads.

    The critique, revision and judge requests of the matching principles, each with the template it
    is made from; no model is asked.

    Example: cai preview harmless 'harm/crime'
    """
    subject = _subject(constitution, model)
    principles = subject.constitution.principles
    names = fnmatch.filter(sorted(principles), pattern)
    if not names:
        text = f"matches no principle of {constitution}{did_you_mean(pattern, principles)}"
        raise InputError([Problem(pattern, text)])
    loaded = subject.constitution
    print(f"constitution {subject.source} ({len(principles)} principles, {loaded.hash[:8]})")
    print(f"{subject.models}\n")
    for name in names:
        _print_principle(subject, name, Prompt.of(prompt_text))


def _subject(spec: str, model: str | None) -> _Subject:
    path = Path(spec)
    is_yaml = path.suffix in (".yaml", ".yml") and path.is_file()
    if is_yaml and kind_of_value(load(path).value) == RUN:
        if model is not None:
            text = "a run file names its own models; leave --model out"
            raise InputError([Problem("--model", text)])
        return _subject_of_run(path, load_config(path))
    source = find_constitution(spec)
    loaded = load_constitution(source)
    base = template_set(find_model(model)) if model else "default"
    templates = Templates(base, loaded.templates)
    if model:
        models = f"model {model}: {base} templates"
    else:
        models = "default templates; --model shows those of a model"
    methods = [judge_method(name) for name in METHODS]
    return _Subject(source, loaded, templates, [templates], methods, models)


def _subject_of_run(path: Path, config: RunConfig) -> _Subject:
    folder = path.parent
    source = find_constitution(config.constitution, folder)
    loaded = load_constitution(source)
    critic = template_set(find_model(config.critic_model, folder, config.servers))
    judges = {
        name: template_set(find_model(name, folder, config.servers)) for name in config.judge_models
    }
    method = judge_method(
        config.judge.method,
        swap_positions=config.judge.swap_positions,
        delimiters=config.judge.delimiters,
    )
    parts = [("critic", config.critic_model, critic)]
    parts += [("judge", name, base) for name, base in judges.items()]
    models = "; ".join(f"{role} {name}: {base} templates" for role, name, base in parts)
    return _Subject(
        source,
        loaded,
        Templates(critic, loaded.templates),
        [Templates(base, loaded.templates) for base in dict.fromkeys(judges.values())],
        [method],
        models,
    )


def _print_principle(subject: _Subject, name: str, prompt: Prompt) -> None:
    loaded, principle = subject.constitution, subject.constitution.principles[name]
    weights = [
        f"{use} weight {loaded.weights[use][name]:g}"
        for use in get_args(Use)
        if name in loaded.weights[use]
    ]
    print(f"=== {name}: {principle.title} ({'; '.join([principle.hash, *weights])})")
    if principle.left_out:
        read = len(principle.rule or "")
        total = read + principle.left_out
        print(f"--- models read the first {read:,} of {total:,} characters of this section")
    critic = subject.critic
    worded = principle.worded_by(critic)
    if worded.critique and worded.revise:
        print(f"--- critique request ({_file(subject, critic, 'critique')})")
        print(critique_request(worded, prompt, critic).content)
        print(f"--- revision request ({_file(subject, critic, 'revise')})")
        print(revision_request(worded, prompt, critic).content)
    for method in subject.methods:
        needed = principle.critique if method.name == "critique" else principle.compare
        for judge in subject.judges if needed else ():
            _print_judge_request(subject, judge, method, principle, prompt)
    print()


def _print_judge_request(
    subject: _Subject,
    judge: Templates,
    method: JudgeMethod,
    principle: Principle,
    prompt: Prompt,
) -> None:
    comparison = Comparison.of(prompt, "<the first answer>", "<the second answer>")
    worded = principle.worded_by(judge)
    request = method.requests(comparison, worded, judge)[0]
    details = [method.name, str(_file(subject, judge, method.template))]
    if isinstance(request, LoglikelihoodRequest):
        details.append(f"options {' / '.join(request.options)}")
    print(f"--- judge request ({'; '.join(details)})")
    print(request.messages[-1].content)
    if request.answer_prefix:
        print(f"--- the answer begins: {request.answer_prefix}")


def _file(subject: _Subject, templates: Templates, name: str) -> Path:
    """Return the file of the template that is used: the project's own or the shipped one."""
    if name in templates.overrides:
        return templates_folder(subject.source) / f"{name}.jinja"
    return nearby(template_path(templates.base, name))
