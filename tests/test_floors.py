"""What docs/explanation/architecture.md says about imports is true of the code.

The floors and the table of libraries are read from the page. Every check takes the folder of a
package, so that a test can plant a violation and see that it is found.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from cai.cli.commands import COMMANDS
from cai.records import Record

PAGE = (Path(__file__).parents[1] / "docs/explanation/architecture.md").read_text(encoding="utf-8")
OUTSIDE = "reference"
LIGHT = {"torch", "transformers"}


class Import(NamedTuple):
    """A module that a file imports, and whether that happens when the file itself is imported."""

    module: str
    at_import: bool


@cache
def imports(path: Path) -> tuple[Import, ...]:
    return tuple(_imports(ast.parse(path.read_text(encoding="utf-8")), at_import=True))


def _imports(node: ast.AST, *, at_import: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from _imports(ast.Module([part], []), at_import=False)
            for part in child.orelse:
                yield from _imports(ast.Module([part], []), at_import=at_import)
        elif isinstance(child, ast.Import):
            yield from (Import(alias.name, at_import) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield Import(child.module, at_import)
            # `from cai import keys` imports a module; `from cai.keys import draw` a name of one
            yield from (Import(f"{child.module}.{alias.name}", at_import) for alias in child.names)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(child, at_import=at_import and not function)


def modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def name_in(package: Path, path: Path) -> str:
    return path.relative_to(package).as_posix()


def room(name: str) -> str:
    """The package or module of the first level: ``rl`` of ``rl/kl.py``."""
    return name.split("/")[0].removesuffix(".py")


def rooms_of(path: Path) -> set[str]:
    """The rooms of ``cai`` that a file imports."""
    parts = [imported.module.split(".") for imported in imports(path)]
    return {part[1] for part in parts if part[0] == "cai" and len(part) > 1}


def libraries_of(path: Path) -> set[str]:
    return {imported.module.split(".")[0] for imported in imports(path)}


# -- what the page says ----------------------------------------------------------------------------


def floors() -> dict[str, int]:
    """The floor of each room, from the picture on the page."""
    picture = re.search(r"^```text\n(\d .*?)^```$", PAGE, re.MULTILINE | re.DOTALL).group(1)
    result, floor = {}, -1
    for line in picture.splitlines():
        floor = int(line[0]) if line[0].isdigit() else floor
        rooms = re.split(r"\s{2,}", line[3:].strip())[0]
        result |= {name.rstrip("/"): floor for name in rooms.split()}
    return result


def libraries() -> dict[str, set[str]]:
    """The modules that may import each library, from the table on the page."""
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)
    return {library: set(re.findall(r"`([^`]+)`", cells)) for library, cells in rows}


# -- checks ----------------------------------------------------------------------------------------


def upward_imports(package: Path) -> list[str]:
    floor = floors()
    found = []
    for path in modules(package):
        mine = room(name_in(package, path))
        if mine in ("__init__", "__main__", OUTSIDE):
            continue
        found += [
            f"{name_in(package, path)} imports {other}"
            for other in sorted(rooms_of(path) & set(floor))
            if floor[other] > floor[mine]
        ]
    return found


def reference_imports(package: Path) -> list[str]:
    inside = [path for path in modules(package) if room(name_in(package, path)) != OUTSIDE]
    users = [name_in(package, path) for path in inside if OUTSIDE in rooms_of(path)]
    return [name for name in users if name != "cli/try_.py"]


def reference_names(package: Path) -> list[str]:
    """Modules outside of ``reference/`` that name one of its modules in a string."""
    found = []
    for path in modules(package):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        named = any(str(value).startswith(f"cai.{OUTSIDE}.") for value in strings)
        if named and room(name_in(package, path)) != OUTSIDE:
            found.append(name_in(package, path))
    return [name for name in found if name != "evaluate/gold.py"]


def cycles(package: Path) -> list[str]:
    """Modules that import each other when they are imported."""
    names = {
        ".".join(("cai", *path.relative_to(package).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in modules(package)
    }
    graph = {
        name: {i.module for i in imports(path) if i.at_import and i.module in names} - {name, "cai"}
        for name, path in names.items()
    }
    while leaves := [name for name, others in graph.items() if not others]:
        graph = {name: others - set(leaves) for name, others in graph.items() if name not in leaves}
    return sorted(graph)


def misplaced_libraries(package: Path) -> list[str]:
    allowed = libraries()
    return [
        f"{name_in(package, path)} imports {library}"
        for path in modules(package)
        for library in sorted(libraries_of(path) & set(allowed))
        if name_in(package, path) not in allowed[library]
    ]


def impure_rl(package: Path) -> list[str]:
    known = {"torch", "cai", "__future__", *sys.stdlib_module_names}
    return [
        name_in(package, path)
        for path in modules(package / "rl")
        if libraries_of(path) - known or rooms_of(path) - {"rl"}
    ]


def impure_feedback(package: Path) -> list[str]:
    return [
        name_in(package, path)
        for path in modules(package / "feedback")
        if libraries_of(path) & {*LIGHT, "rich", "typer"} or "files" in rooms_of(path)
    ]


def screens_outside_cli(package: Path) -> list[str]:
    inside = [path for path in modules(package) if room(name_in(package, path)) != "cli"]
    return [name_in(package, path) for path in inside if libraries_of(path) & {"rich", "typer"}]


PLANTED = [
    (upward_imports, "rl/bad.py", "from cai.pipeline.run import Run"),
    (upward_imports, "evaluate/bad.py", "def f():\n    from cai.pipeline.run import Run"),
    (upward_imports, "keys.py", "from cai import templates"),
    (reference_imports, "evaluate/bad.py", "import cai.reference.gold"),
    (reference_names, "pipeline/bad.py", "GOLD = 'cai.reference.gold:read'"),
    (cycles, "keys.py", "from cai.errors import InputError"),
    (misplaced_libraries, "train/loop.py", "from accelerate import Accelerator"),
    (misplaced_libraries, "train/sft.py", "def f():\n    import peft"),
    (impure_rl, "rl/bad.py", "import numpy"),
    (impure_rl, "rl/bad.py", "from cai.models.load import fingerprint"),
    (impure_feedback, "feedback/bad.py", "import torch"),
    (impure_feedback, "feedback/bad.py", "from cai.files import write_text"),
    (screens_outside_cli, "pipeline/bad.py", "from rich.console import Console"),
]
CHECKS = list(dict.fromkeys(check for check, _, _ in PLANTED))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_architecture_page_is_true_of_imports(check, root):
    assert check(root / "cai") == []


@pytest.mark.parametrize(("check", "name", "code"), PLANTED)
def test_a_planted_violation_is_found(check, name, code, tmp_path):
    (tmp_path / "errors.py").write_text("import cai.keys\n")  # half of a cycle
    (tmp_path / name).parent.mkdir(exist_ok=True)
    assert check(tmp_path) == []
    (tmp_path / name).write_text(f"{code}\n")
    assert len(check(tmp_path)) >= 1


def test_every_package_is_on_a_floor(root):
    rooms = {room(name_in(root / "cai", path)) for path in modules(root / "cai")}
    assert rooms - {"__init__", "__main__", OUTSIDE} == set(floors())


def test_the_table_of_libraries_is_complete(root):
    users = {library: set() for library in libraries()}
    for path in modules(root / "cai"):
        for library in libraries_of(path) & set(users):
            users[library].add(name_in(root / "cai", path))
    assert users == libraries()


def test_the_files_that_the_page_names_exist(root):
    names = re.findall(r"`((?:[a-z_]+/)*[a-z_]+(?:\.py|/))`", PAGE)
    assert len(names) > 20
    missing = [name for name in names if not any((root / "cai").rglob(name))]
    assert [name for name in missing if not (root / name).exists()] == []


def test_records_are_frozen():
    kinds = Record.__subclasses__()
    assert kinds
    assert all(kind.model_config["frozen"] for kind in kinds)


def test_every_command_but_those_that_train_has_its_own_module():
    names = [command.function.partition(":")[0] for command in COMMANDS.values()]
    own = [name for name in names if name != "cai.cli.train"]
    assert len(own) == len(set(own)) == len(names) - 4


@pytest.mark.parametrize(
    "code",
    [
        "import cai",
        "import cai.cli.app",
        "import cai.cli.check, cai.cli.preview, cai.cli.settings",
        "import cai.feedback.revise, cai.feedback.judge",
        "import cai.constitution.lint",
    ],
)
def test_light_imports(code):
    script = f"import sys; {code}; sys.exit(any(m in sys.modules for m in {LIGHT}))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_heavy_import_is_noticed():
    script = f"import sys, cai.models.load; sys.exit(any(m in sys.modules for m in {LIGHT}))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 1
