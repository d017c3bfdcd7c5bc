"""What a user installs: the wheel holds what it needs, and works from an empty folder."""

import subprocess
import sys
import zipfile

import pytest


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", out, root], check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_carries_everything(wheel, root):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("principles", "constitution", "examples"):
        for path in (root / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"cai/_shipped/{path.relative_to(root).as_posix()}" in names
    assert {
        "cai/templates/critique.jinja",
        "cai/report/page.html.jinja",
        "cai/reference/world.yaml",
        "cai/reference/model/model.safetensors",
    } <= names
    assert not any("__pycache__" in n or n.startswith("tests/") for n in names)


def test_the_wheel_works_from_an_empty_folder(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    empty = tmp_path / "empty"
    empty.mkdir()
    script = f"import sys; sys.path.insert(0, {str(site)!r}); import cai; assert cai.__file__.startswith({str(site)!r}); from cai.cli.app import main; sys.argv = ['cai'] + {{arguments}}; main()"

    def cai(*arguments):
        code = script.replace("{arguments}", repr(list(arguments)))
        return subprocess.run([sys.executable, "-P", "-c", code], cwd=empty, capture_output=True, text=True, check=False)

    assert "mean words" in cai("preview", "reference", "reference/insult").stdout
    done = cai("try", "Write something rude about Amy.", "--principle", "reference/insult")
    assert done.returncode == 0 and "critique" in done.stdout, done.stderr
    assert cai("init", ".").returncode == 0 and (empty / "examples/quickstart.yaml").is_file()


def test_the_model_is_small_and_plain(root):
    folder = root / "cai/reference/model"
    assert sum(p.stat().st_size for p in folder.iterdir()) < 15_000_000
    assert not [p for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pkl", ".py")]
