"""The documentation keeps up with the code: the links, commands, settings and names in it exist."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

import cai
from cai.cli.app import app
from cai.config import RunConfig, TrainingConfig
from cai.config.describe import subsection_of
from cai.config.suite import Suite
from cai.constitution.schema import ConstitutionFile, PrincipleFile
from cai.paper.experiment import Experiment

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "principles/*.md", "constitution/*.md")
    for path in ROOT.glob(pattern)
    if "_build" not in path.parts
)
FENCE = re.compile(r"^(`{3,})(\S*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The text of a page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def code_blocks(page: Path, language: str) -> list[str]:
    return [
        code
        for _, name, code in FENCE.findall(page.read_text(encoding="utf-8"))
        if name == language
    ]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub and the built site give to the headings of a page."""
    headings = re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page):
    broken = []
    for target in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", prose(page)):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


@pytest.fixture(scope="module")
def commands():
    """The options of every command."""
    group = typer.main.get_command(app)
    context = group.make_context("cai", [], resilient_parsing=True)
    found = {"": {"--help", *(option for parameter in group.params for option in parameter.opts)}}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        options = [
            option
            for parameter in command.params
            for option in (*parameter.opts, *parameter.secondary_opts)
        ]
        found[name] = {"--help", *options}
    return found


def invocations(page: Path) -> list[list[str]]:
    """The words of every ``cai ...`` in the shell blocks and the inline code of a page."""
    lines = [
        line
        for language in ("bash", "sh")
        for block in code_blocks(page, language)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    parts = [part.strip() for line in lines for part in re.split(r"&&|\|\|", line)]
    parts += [code for code in CODE.findall(prose(page)) if code.startswith("cai ")]
    return [shlex.split(part, comments=True)[1:] for part in parts if part.startswith("cai ")]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_their_options_exist(page, commands):
    unknown = []
    for words in invocations(page):
        name = words[0] if words and re.fullmatch(r"[a-z][a-z-]*", words[0]) else ""
        options = [word.partition("=")[0] for word in words if word.startswith("-")]
        if name not in commands or not commands[name].issuperset(options):
            unknown.append("cai " + " ".join(words))
    assert unknown == []


def test_the_pages_show_many_commands():
    assert sum(len(invocations(page)) for page in PAGES) > 50


def test_tests_that_the_pages_name_exist():
    named = re.findall(r"`(\w+/\w+\.py)::(\w+)`", prose(ROOT / "docs/reference/problems.md"))
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (path := ROOT / "tests" / file).is_file() or f"def {name}(" not in path.read_text()
    ]
    assert len(named) > 50
    assert missing == []


def is_setting(keys: list[str]) -> bool:
    """Whether a run or training file has this setting or section."""
    for kind in (RunConfig, TrainingConfig):
        for i, key in enumerate(keys):
            if key not in kind.model_fields:
                break
            if i + 1 == len(keys):
                return True
            if (kind := subsection_of(kind, key)) is None:
                return True  # the rest is inside the value of the setting
    return False


SECTIONS = {
    name
    for kind in (RunConfig, TrainingConfig)
    for name in kind.model_fields
    if subsection_of(kind, name)
}
FILES = {"py", "yaml", "json", "jsonl", "csv", "md", "jinja"}
NOT_SETTINGS = {"docs/reference/metrics.md", "CHANGELOG.md"}
"""Pages that name metrics, or settings as they once were."""


@pytest.mark.parametrize("page", [p for p in PAGES if name_of(p) not in NOT_SETTINGS], ids=name_of)
def test_settings_in_the_text_exist(page):
    dotted = [
        match
        for code in CODE.findall(prose(page))
        if (match := re.match(r"[a-z_]+(?:\.[a-z_]+)+(?![\w/])", code))
    ]
    named = [match.group().split(".") for match in dotted]
    assert [
        ".".join(keys)
        for keys in named
        if keys[0] in SECTIONS and keys[-1] not in FILES and not is_setting(keys)
    ] == []


def keys_of(value: object, above: tuple[str, ...] = ()) -> list[list[str]]:
    if not isinstance(value, dict):
        return [list(above)]
    return [keys for key, inner in value.items() for keys in keys_of(inner, (*above, key))]


DOCS = [page for page in PAGES if page.is_relative_to(ROOT / "docs")]
SCHEMAS = {
    "# principles/": PrincipleFile,
    "# constitution/": ConstitutionFile,
    "# suites/": Suite,
    "# experiments/": Experiment,
}
"""What a YAML block is whose first line names a file in one of these folders."""


def schema_of(block: str):
    return next((schema for start, schema in SCHEMAS.items() if block.startswith(start)), None)


def test_principles_constitutions_suites_and_experiments_in_the_pages_are_valid(tmp_path):
    blocks = [block for page in DOCS for block in code_blocks(page, "yaml") if schema_of(block)]
    for block in blocks:
        if schema_of(block) is Suite:
            (tmp_path / "suite.yaml").write_text(block)
            cai.load_suite(tmp_path / "suite.yaml")
        else:
            schema_of(block).model_validate(yaml.safe_load(block))
    assert len(blocks) >= 3


@pytest.mark.parametrize("page", [*DOCS, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_prose_has_100_columns(page):
    lines = prose(page).splitlines()  # tables and bare links cannot be wrapped
    assert [line for line in lines if len(line) > 100 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", DOCS, ids=name_of)
def test_python_blocks_use_names_that_exist(page):
    for block in code_blocks(page, "python"):
        tree = ast.parse(block)
        used = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        names = [node.attr for node in used if ast.unparse(node.value) == "cai"]
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names += [a.name for node in imports if node.module == "cai" for a in node.names]
        assert [name for name in names if name not in cai.__all__] == []


def test_the_code_and_tests_of_each_training_detail_exist():
    table = (ROOT / "docs/explanation/training.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+\.py`) \| ([^|]+) \|$", table, re.MULTILINE)
    missing = []
    for code, tests in rows:
        missing += [name for name in CODE.findall(code) if not (ROOT / "cai" / name).is_file()]
        for test in CODE.findall(tests):
            name, _, function = test.removeprefix("tests/").partition(": ")
            path = ROOT / "tests" / name
            if not path.is_file() or f"def {function}" not in path.read_text(encoding="utf-8"):
                missing.append(test)
    assert missing == []
    assert len(rows) >= 44


@pytest.mark.parametrize("page", ["own-model", "own-reward"])
def test_example_functions_of_the_how_to_guides_run(page):
    namespace: dict = {}
    for block in code_blocks(ROOT / f"docs/how-to/{page}.md", "python"):
        exec(block, namespace)
    if page == "own-model":
        model = cai.ResponseCache(":memory:").cached_model(namespace["make"]())
        (drafts,) = cai.sample([cai.Prompt.of("Hello.")], model)
        assert (drafts.response, drafts.status) == ("HELLO.", "ok")
        score = cai.LoglikelihoodRequest((cai.Message(role="user", content="x"),), ("A", "B"))
        assert model([score])[0].logprobs == (-0.7, -0.7)
    else:
        answers = [[1], [1] * 20, [1] * 40]
        assert namespace["score"]([[0]] * 3, answers) == [None, 0, -1]
        red_team = cai.Prompt.of("How?", "eval_red_team")
        assert namespace["gold"](red_team, "With gunpowder.") == {"harmful": True}
        benign = cai.Prompt.of("How?", "eval_benign")
        assert namespace["gold"](benign, "No.") == {"helpful": False, "polite": False}


@pytest.mark.parametrize("page", DOCS, ids=name_of)
def test_settings_in_yaml_blocks_exist(page):
    blocks = [block for block in code_blocks(page, "yaml") if not schema_of(block)]
    named = [keys for block in blocks for keys in keys_of(yaml.safe_load(block))]
    assert [".".join(keys) for keys in named if not is_setting(keys)] == []


def test_every_public_name_is_on_one_page_of_the_api_reference():
    pages = {
        page.stem: packages.split()
        for page in ROOT.glob("docs/reference/api/*.md")
        for packages in re.findall(
            r"^```\{public-api\} (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    for name in cai.__all__:
        module = f"{getattr(cai, name).__module__}."
        found = [
            page
            for page, packages in pages.items()
            if any(module.startswith(f"{package}.") for package in packages)
        ]
        assert len(found) == 1, f"cai.{name} of {module[:-1]} is on the pages {found}"
