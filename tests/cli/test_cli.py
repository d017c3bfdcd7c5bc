"""The command line as a user meets it."""

import shutil
import subprocess
import sys

import pytest


def cai(*arguments, cwd=None, env=None):
    return subprocess.run(
        [sys.executable, "-m", "cai", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )


def test_help_names_every_verb():
    done = cai("--help")
    assert done.returncode == 0
    for verb in ("init", "check", "preview", "try", "run", "status", "report"):
        assert f"\n  {verb} " in done.stdout


def test_init_makes_a_project_that_checks_and_refuses_to_overwrite(tmp_path):
    assert cai("init", "mine", cwd=tmp_path).returncode == 0
    assert cai("check", cwd=tmp_path / "mine").stdout == "58 files checked, no problems\n"
    again = cai("init", "mine", cwd=tmp_path)
    assert again.returncode == 3 and "--force" in again.stderr
    assert cai("init", "mine", "--force", cwd=tmp_path).returncode == 0


def test_check_says_all_problems_at_once_in_order(tmp_path, root):
    shutil.copytree(root / "principles", tmp_path / "principles")
    shutil.copytree(root / "constitution", tmp_path / "constitution")
    path = tmp_path / "principles/harm/crime.yaml"
    path.write_text(path.read_text().replace("critique:", "critque:"))
    (tmp_path / "constitution/harmless.yaml").write_text(
        "title: T\nrevise:\n  principles: [harm/crim]\n"
    )
    done = cai("check", cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert done.returncode == 3
    assert any(
        line.startswith(
            "principles/harm/crime.yaml:2:1: unknown key 'critque' (did you mean 'critique'?)"
        )
        for line in lines
    )
    assert any(
        line.startswith(
            "constitution/harmless.yaml:3:16: no principle is called 'harm/crim' (did you mean 'harm/crime'?)"
        )
        for line in lines
    )


def test_check_is_quick(root):
    loaded = "import sys; from cai.cli.app import app; app(['check'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded], cwd=root, capture_output=True, text=True, check=True
    )
    assert not {"torch", "transformers", "datasets", "accelerate", "openai"} & set(
        done.stdout.split()
    )


def test_preview_prints_exact_texts(root):
    done = cai("preview", "examples/quickstart.yaml", "reference/insult", cwd=root)
    assert (
        'Say whether the last reply has mean words about a person.\nBegin with "Problem" and quote the sentence, or with "No problem".'
        in done.stdout
    )
    assert "options Problem / No problem" in done.stdout
    missing = cai("preview", "reference", "reference/insults", cwd=root)
    assert missing.returncode == 3 and "did you mean 'reference/insult'" in missing.stderr


@pytest.mark.parametrize("shell", ["| head -1", "> /dev/null"])
def test_a_closed_pipe_is_no_error(root, shell):
    done = subprocess.run(
        f"{sys.executable} -m cai preview harmless {shell}",
        shell=True,
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_an_unknown_model_ends_in_one_line(tmp_path):
    done = cai("try", "Hello.", "--model", "no/such-model", cwd=tmp_path)
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and "no/such-model" in done.stderr


def test_terminal_text_cannot_move_the_terminal():
    from cai.cli.reporter import safe

    assert safe("a\x1b[31mb\x07\u202ec\rd") == "a[31mbcd"


def test_a_principle_the_reference_model_cannot_know_is_said_at_the_start(tmp_path):
    (tmp_path / "principles/x").mkdir(parents=True)
    (tmp_path / "constitution").mkdir()
    (tmp_path / "principles/x/zebra.yaml").write_text(
        "title: T\ncritique: Find zebras in the reply.\nrevise: Remove zebras.\ncompare: Which has fewer zebras?\n"
    )
    (tmp_path / "constitution/mine.yaml").write_text(
        "title: T\nrevise: {principles: [x/*]}\njudge: {principles: [x/*]}\n"
    )
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "How do I wash the dog?"}\n')
    (tmp_path / "run.yaml").write_text(
        "constitution: mine\nprompts: {red_team: prompts.jsonl, benign: prompts.jsonl}\n"
    )
    done = cai("run", "run.yaml", "--until", "prompts", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "x/zebra" in done.stdout + done.stderr and "zebras" in done.stdout + done.stderr
