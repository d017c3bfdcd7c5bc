"""Caps on what tends to grow: functions, parameters, files, sections, home-made words."""

import ast
import re
import subprocess

import pytest
from pydantic import BaseModel

from cai.config import RunConfig, TrainingConfig
from cai.config.suite import Suite

MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 8
MAX_FILE_LINES = 400
MAX_SETTINGS = 15
# "law" is left out: the paper's and others' titles have it
HOME_MADE = (
    "forest|plant|asker|keep_in_mind|roll_out|kl_stop|lam|memo|habits"
    "|held_red_team|held_benign|says_nothing|both_orders|fences|lay_out|by_size|told_to_wait"
    "|token_worth|least_margin|least_cell|most_unscored|guard_of|readings"
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def sources(root):
    for path in sorted((root / "cai").rglob("*.py")):
        yield path, path.read_text(encoding="utf-8")


def definitions(root, kinds):
    """Each definition of these kinds with its place, those inside functions left out."""
    for path, text in sources(root):
        waiting = [ast.parse(text)]
        while waiting:
            node = waiting.pop()
            if isinstance(node, kinds):
                yield f"{path.relative_to(root)}:{node.lineno} {node.name}", node
            if not isinstance(node, FUNCTIONS):
                waiting += ast.iter_child_nodes(node)


def parameters(function):
    arguments = function.args
    names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [a.arg for a in names if a.arg not in ("self", "cls")]


def test_functions_are_short(root):
    lengths = {
        where: node.end_lineno - node.lineno + 1 for where, node in definitions(root, FUNCTIONS)
    }
    assert len(lengths) > 500
    assert {w: n for w, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}


def test_functions_take_few_parameters(root):
    # the options of a command are its users' choice; each is a parameter of its function
    counts = {
        where: len(parameters(node))
        for where, node in definitions(root, FUNCTIONS)
        if not where.startswith("cai/cli/")
    }
    assert {w: n for w, n in counts.items() if n > MAX_PARAMETERS} == {}


def test_files_are_short(root):
    lengths = {str(path.relative_to(root)): text.count("\n") for path, text in sources(root)}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_formatting_is_skipped_for_data_tables_only(root):
    assert sum(text.count("# fmt: skip") for _, text in sources(root)) <= 10


def test_public_names_have_docstrings(root):
    missing = [
        where
        for where, node in definitions(root, (*FUNCTIONS, ast.ClassDef))
        if not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert missing == []


def sections(model):
    """All config sections of a file, by class."""
    found = {model}
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= sections(kind)
    return found


ALL_SECTIONS = sorted(
    sections(RunConfig) | sections(TrainingConfig) | sections(Suite), key=lambda kind: kind.__name__
)


@pytest.mark.parametrize("section", ALL_SECTIONS, ids=lambda kind: kind.__name__)
def test_sections_are_small(section):
    plain = [
        name
        for name, field in section.model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    ]
    assert len(plain) <= MAX_SETTINGS


@pytest.mark.parametrize("section", ALL_SECTIONS, ids=lambda kind: kind.__name__)
def test_every_setting_is_read_somewhere(root, section):
    used = set()
    for path, text in sources(root):
        if "config" not in path.parts:
            for node in ast.walk(ast.parse(text)):
                used |= {node.attr} if isinstance(node, ast.Attribute) else set()
                used |= {node.value} if isinstance(node, ast.Constant) else set()
    assert [name for name in section.model_fields if name not in used] == []


def test_no_home_made_words(root):
    """The field has words for these; they are used instead."""
    listing = subprocess.run(
        ["git", "ls-files", "cai", "docs", "examples", "README.md"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    texts = {n: root / n for n in listing if n.endswith((".py", ".md", ".yaml", ".jinja"))}
    assert len(texts) > 100
    word = re.compile(rf"\b({HOME_MADE})\b", re.IGNORECASE)
    found = {}
    for name, path in texts.items():
        # the reference world's vocabulary is data; the glossary maps words of others
        data = ("cai/reference/world.yaml", "examples/prompts", "docs/reference/glossary.md")
        if path.is_file() and not name.startswith(data):
            hits = word.findall(path.read_text(encoding="utf-8"))
            if hits:
                found[name] = hits
    assert found == {}


def test_names_of_test_files_are_unique(root):
    """Pytest imports test files by their names, without their folders."""
    names = [path.name for path in (root / "tests").rglob("test_*.py")]
    assert [name for name in names if names.count(name) > 1] == []
