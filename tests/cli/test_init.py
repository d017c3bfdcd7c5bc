"""``cai init`` fills a folder, and what it says to do next uses that folder's constitution."""

import re
import shlex
import subprocess
import sys

import pytest

from cai.cli.init import init_folder
from cai.errors import LimitReached


def shell(command, cwd):
    program = f"{shlex.quote(sys.executable)} -m cai"
    return subprocess.run(
        re.sub(r"\bcai (?=run|init|sft)", f"{program} ", command),
        shell=True,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("folder", ["my-assistant", "my assistant", "."])
def test_the_command_it_prints_runs_the_edited_constitution(tmp_path, folder):
    done = shell(f"cai init '{folder}'", tmp_path)
    assert done.returncode == 0, done.stderr
    command = done.stdout.splitlines()[-1].partition(", then: ")[2]
    assert (
        command
        == {
            "my assistant": "cd 'my assistant' && ",
            "my-assistant": "cd my-assistant && ",
            ".": "",
        }[folder]
        + "cai run examples/quickstart.yaml"
    )
    good = shell(f"{command} --dry-run", tmp_path)
    assert good.returncode == 0 and good.stdout.splitlines()[0].startswith(
        "constitution constitution/reference.yaml (16 principles, "
    )
    insult = tmp_path / folder / "principles/reference/insult.yaml"
    insult.write_text(insult.read_text().replace("compare:", "comapre:"))
    for where, how in (
        (tmp_path, command),
        (tmp_path, f"cai run {shlex.quote(folder)}/examples/quickstart.yaml"),
        (tmp_path / folder / "examples", "cai run quickstart.yaml"),
    ):
        bad = shell(f"{how} --dry-run", where)
        assert (
            bad.returncode == 3
            and "insult.yaml:6:1: unknown key 'comapre' (did you mean 'compare'?)" in bad.stderr
        ), how


def test_the_first_line_of_a_run_names_the_constitution_it_uses(tmp_path):
    shell("cai init mine", tmp_path)
    done = shell("cai run mine/examples/quickstart.yaml --until prompts --run r", tmp_path)
    first = done.stdout.splitlines()[0]
    assert re.fullmatch(
        r"constitution mine/constitution/reference\.yaml \(16 principles, [0-9a-f]{8}\)", first
    )
    assert first.split()[-1].rstrip(")") in (tmp_path / "r/constitution.lock.yaml").read_text()


def test_a_folder_that_cannot_be_written_ends_in_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    done = shell("cai init file/mine", tmp_path)
    assert done.returncode == 4 and re.fullmatch(
        r"file/mine/principles/\S+: cannot be written: Not a directory\n", done.stderr
    )
    with pytest.raises(LimitReached):
        init_folder(tmp_path / "file", force=False)


def test_training_into_a_place_that_cannot_be_written_ends_in_one_line(tmp_path, root):
    (tmp_path / "file").write_text("x")
    run_file = root / "examples/human_feedback.yaml"
    done = shell(f"cai sft {run_file} --set out={tmp_path}/file/out --set data.limit=2", tmp_path)
    assert done.returncode == 4 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith(
        "file/out/sft.log.jsonl: cannot be written: Not a directory"
    )


@pytest.mark.parametrize(
    "command", ["cai run examples/quickstart.yaml", "cai sft examples/human_feedback.yaml"]
)
def test_an_example_that_is_not_there_leads_to_init(tmp_path, command):
    done = shell(command, tmp_path)
    assert done.returncode == 3 and not list(tmp_path.iterdir())
    assert (
        done.stderr
        == f"{command.split()[-1]}: there is no such file; `cai init` copies the examples into a folder of yours\n"
    )
