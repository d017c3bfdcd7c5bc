"""Read and check the templates that a user puts in place of the shipped ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes

from cai.errors import InputError, Problem, did_you_mean
from cai.files import read_utf8
from cai.templates.bounded import bounded
from cai.templates.prompts import (
    ANSWERED,
    ENVIRONMENT,
    NAMES,
    OPTIONAL_VARIABLES,
    OPTIONS,
    VARIABLES,
    setting_in,
)

_IGNORED = ("README.md",)
_CONVERSATION = (
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hello, how can I help?"},
    {"role": "user", "content": "Thank you."},
)
_SAMPLES: dict[str, object] = {
    "conversation": _CONVERSATION,
    "requests": ("Find the insults.", "Find the lies."),
    "levels": ("Harmless.", "Harmful."),
    "questions": ("Which is kinder?", "Which is truer?"),
    "chain_of_thought": False,
}
"""Values for a trial of a template; every other variable is a text."""
_RENDER_ERRORS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    MemoryError,
    TypeError,
    ValueError,
)


def read_templates(folder: Path) -> dict[str, str]:
    """Read the templates of a folder.

    Args:
        folder: The folder ``templates`` of a project; it need not exist.

    Returns:
        The source of each template by its name, without ``.jinja``.

    Raises:
        InputError: for each file that is not a known template, does not parse, uses an unknown
            variable, leaves out a needed one, or fails on sample values.
    """
    sources: dict[str, str] = {}
    problems: list[Problem] = []
    for path in template_files(folder):
        name = path.name.removesuffix(".jinja")
        if path.suffix != ".jinja" or name not in VARIABLES:
            hint = did_you_mean(path.stem, NAMES)
            names = ", ".join(f"{known}.jinja" for known in NAMES)
            problems.append(
                Problem(str(path), f"is not the name of a template{hint}; templates are {names}")
            )
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            problems.append(Problem(str(path), "is a link to a file outside of this folder"))
            continue
        try:
            sources[name] = read_utf8(path)
        except InputError as error:
            problems += error.problems
        else:
            problems += _problems(path, name, sources[name])
    if problems:
        raise InputError(problems)
    return sources


def template_files(folder: Path) -> list[Path]:
    """List the files of a folder of templates, in order; none if there is no such folder."""
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.is_file())
    return sorted(p for p in files if not p.name.startswith(".") and p.name not in _IGNORED)


def _problems(path: Path, name: str, source: str) -> Iterator[Problem]:
    """Find all that is wrong with one template."""
    try:
        tree = ENVIRONMENT.parse(source)
        used = meta.find_undeclared_variables(tree)
    except TemplateSyntaxError as error:
        yield Problem(f"{path}:{error.lineno}:1", f"invalid template: {error.message}")
        return
    known = (*VARIABLES[name], *OPTIONAL_VARIABLES.get(name, ()))
    unknown = sorted(used - set(known))
    for variable in unknown:
        hint = did_you_mean(variable, known)
        text = f"unknown variable {variable!r}{hint}; this template has {', '.join(known)}"
        yield Problem(f"{path}:{_line_of(tree, variable)}:1", text)
    for variable in VARIABLES[name]:
        if variable not in used:
            yield Problem(f"{path}:1:1", f"never shows {{{{ {variable} }}}}; the model needs it")
    if not unknown:
        yield from _trial(path, name, source)
    if name in OPTIONS:
        yield from _option_problems(path, source)
    if name in ANSWERED:
        yield from _answer_problems(path, source)


def _line_of(tree: nodes.Template, variable: str) -> int:
    return next((n.lineno for n in tree.find_all(nodes.Name) if n.name == variable), 1)


def _trial(path: Path, name: str, source: str) -> Iterator[Problem]:
    """Fill a template with sample values and report an error with its line."""
    known = (*VARIABLES[name], *OPTIONAL_VARIABLES.get(name, ()))
    values = {variable: _SAMPLES.get(variable, "a text") for variable in known}
    template = ENVIRONMENT.from_string(source)
    try:
        with bounded():
            template.render(values)
    except _RENDER_ERRORS as error:
        yield Problem(f"{path}:{_failing_line(error)}:1", f"cannot be filled: {error}")


def _failing_line(error: BaseException) -> int:
    """Return the line of a template at which filling it failed."""
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _option_problems(path: Path, source: str) -> Iterator[Problem]:
    options = setting_in(source, "options")
    if options is None:
        return
    texts = options if isinstance(options, list) else []
    texts = [option for option in texts if isinstance(option, str) and option.strip()]
    if not isinstance(options, list) or len(options) != 2 or len({t.strip() for t in texts}) != 2:
        text = 'options must be two different texts, such as {% set options = ["Yes", "No"] %}'
        yield Problem(f"{path}:1:1", text)
    elif any(text != text.lstrip() for text in texts) and setting_in(source, "answer") is None:
        yield Problem(f"{path}:1:1", "options may begin with a space only after {% set answer %}")


def _answer_problems(path: Path, source: str) -> Iterator[Problem]:
    answer = setting_in(source, "answer")
    if answer is None:
        return
    if not isinstance(answer, str) or not answer.strip():
        text = 'answer must be a text, such as {% set answer = "The answer is: (" %}'
        yield Problem(f"{path}:1:1", text)
    elif answer != answer.rstrip():
        # a model's tokens begin with the space, so none fits after one
        text = "answer must not end with a space; begin the options with it"
        yield Problem(f"{path}:1:1", text)
