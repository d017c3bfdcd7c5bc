"""Imports go down only, and what must be light is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

FLOORS = (
    {
        "errors",
        "keys",
        "cleaning",
        "quiet",
        "validation",
        "records",
        "config",
        "documents",
        "validation",
        "functions",
        "files",
        "distributed",
        "shipped",
    },
    {"constitution", "templates", "data", "arguments"},
    {"models", "rl"},
    {"backends"},
    {"feedback", "train"},
    {"evaluate", "report"},
    {"pipeline"},
    {"cli", "__init__", "__main__"},
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# said once, here: evaluation and the report's data are about a run's folder, and look up into the pipeline for it
ALLOWED_UP = {("evaluate", "pipeline")}


def modules(root: Path):
    for path in sorted((root / "cai").rglob("*.py")):
        yield path, path.relative_to(root / "cai").parts[0].removesuffix(".py")


def imported(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cai":
            parts = node.module.split(".")
            yield from ([parts[1]] if len(parts) > 1 else [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.split(".")[1] for alias in node.names if alias.name.startswith("cai.")
            )


def violations(root: Path):
    for path, package in modules(root):
        if package in ("__init__", "reference"):
            continue
        for target in imported(path):
            if target == "reference":
                continue  # the laboratory beside the house: looked up lazily where the reference model is in play
            if FLOOR_OF[target] > FLOOR_OF[package] and (package, target) not in ALLOWED_UP:
                yield f"{path.name}: {package} imports {target}"


def test_imports_go_down_only(root):
    assert list(violations(root)) == []


def test_an_upward_import_is_seen(tmp_path):
    (tmp_path / "cai" / "rl").mkdir(parents=True)
    (tmp_path / "cai" / "rl" / "bad.py").write_text("from cai.pipeline.run import Run\n")
    assert list(violations(tmp_path)) == ["bad.py: rl imports pipeline"]


def test_tensor_maths_knows_only_torch(root):
    for path in (root / "cai" / "rl").glob("*.py"):
        assert set(imported(path)) <= {"rl"}, path


def test_accelerate_is_touched_in_one_file(root):
    users = [path.name for path, _ in modules(root) if "Accelerator(" in path.read_text()]
    assert users == ["engine.py"]


@pytest.mark.parametrize(
    "code",
    [
        "import cai",
        "import cai.cli.app",
        "import cai.feedback.revise, cai.feedback.judge",
        "import cai.constitution.lint",
    ],
)
def test_light_imports(code):
    script = (
        f"import sys; {code}; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
