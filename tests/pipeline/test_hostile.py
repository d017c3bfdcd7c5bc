"""Odd input and odd surroundings: one line says what is wrong, and nothing is lost."""

import json
import os
import resource
from pathlib import Path

import pytest
from commands import cai, content, run

from cai.cli.run import Options, run_pipeline
from cai.errors import InputError
from cai.report.page import write_report

ODD = [
    "a lone \ud800 surrogate",
    "a nul \x00 inside",
    "lines \u2028 and \u0085 and \r here",
    "\u202eright to left",
    "z\u0301\u0300" * 60,
    "a family 👩‍👩‍👧",
    "cafe\u0301",
    "café",
    "<script>alert(1)</script> {{ 7 * 7 }} {% raw %} %s \\n",
    "[red]bold[/red] \x1b[31m",
    "zero\u200bwidth",
]


def test_full_disk_is_named_and_finished_work_is_kept(judged_project):
    arguments = ("run", "examples/run.yaml", "--run", "runs/full", "--until", "revise")
    for limit in (3_000, 15_000):  # bytes that one file may have
        done = cai(
            judged_project,
            *arguments,
            check=False,
            preexec_fn=lambda limit=limit: resource.setrlimit(
                resource.RLIMIT_FSIZE, (limit, limit)
            ),
        )
        assert "Traceback" not in done.stderr and done.returncode == 4, done.stderr
        assert "too large" in done.stderr or "disk" in done.stderr
    run(judged_project, until="revise", name="full")
    written, whole = content(judged_project, "full")[0], content(judged_project)[0]
    assert written == {name: whole[name] for name in written}
    assert "revise/records.jsonl" in written
    assert not list((judged_project / "runs/full").rglob("*.partial"))


def prompt_ids(project, name):
    path = project / f"runs/{name}/prompts/records.jsonl"
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line)["id"] for line in file]


def test_odd_characters_go_through_to_the_report(project):
    rows = "".join(json.dumps({"prompt": f"How do I wash the dog? {odd}"}) + "\n" for odd in ODD)
    (project / "examples/red.jsonl").write_text(rows)
    metrics = run(project, until="judge")
    assert metrics["stages"]["prompts"]["red_team"] == len(ODD)
    write_report(project / "runs/r")
    assert "<script" not in (project / "runs/r/report.html").read_text(encoding="utf-8")
    run(project, until="prompts", name="again")
    assert prompt_ids(project, "r") == prompt_ids(project, "again")
    assert cai(project, "export", "runs/r").returncode == 0


def test_prompt_that_is_too_long_is_a_status(project):
    with (project / "examples/red.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "dog " * 250_000}) + "\n")
    stages = run(project, until="judge")["stages"]
    assert stages["sample"]["too_long"] == 1 and stages["revise"]["revisions"] == 8


def test_plain_surroundings_get_plain_text(judged_project):
    plain = {k: v for k, v in os.environ.items() if k not in ("LANG", "LC_ALL", "TERM")}
    plain |= {"LC_ALL": "C", "TERM": "dumb", "COLUMNS": "20"}
    for arguments in (
        ("run", "examples/run.yaml", "--run", "runs/r", "--until", "sample"),
        ("status", "runs/r"),
        ("preview", "small"),
    ):
        done = cai(judged_project, *arguments, env=plain, check=False)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "is_accepted"),
    [
        ("-dash", True),
        ("a.b-c_1", True),
        ("a b", False),
        ("ünï", False),
        ("x" * 255, False),
        ("a\nb", False),
        ("..", False),
    ],
)
def test_names_of_runs(project, monkeypatch, name, is_accepted):
    monkeypatch.chdir(project)
    path, folder = project / "examples/run.yaml", project / "runs" / name
    if is_accepted:
        run_pipeline(path, folder, Options(until="prompts"))
        assert (folder / "prompts/manifest.json").is_file()
    else:
        with pytest.raises(InputError, match="the name of a run"):
            run_pipeline(path, folder, Options(until="prompts"))
        assert not (project / "runs").exists()


def test_labels_that_failed_the_audit_need_force_to_export(judged_project):
    strict = ("--set", "audit.gate=true", "--set", "audit.max_near_ties=0", "--until", "audit")
    arguments = ("run", "examples/run.yaml", "--run", "runs/r", *strict)
    stopped = cai(judged_project, *arguments, check=False)
    assert stopped.returncode == 5 and "not fit to train on" in stopped.stderr
    refused = cai(judged_project, "export", "runs/r", check=False)
    assert refused.returncode == 3 and "--force" in refused.stderr
    assert not (judged_project / "runs/r/export").exists()
    cai(judged_project, "export", "runs/r", "--force")
    assert "unfit to train on" in (judged_project / "runs/r/export/README.md").read_text()


@pytest.mark.parametrize(
    "holds", ["a file", "a config of its own", "nothing", "a run that was begun"]
)
def test_only_the_folder_of_a_run_is_worked_in(project, monkeypatch, holds):
    monkeypatch.chdir(project)
    folder = project / "mine"
    folder.mkdir()
    names = {
        "a file": ["thesis.tex"],
        "a config of its own": ["config.yaml"],
        "nothing": [],
        "a run that was begun": [".lock", ".owner", "config.yaml", ".config.yaml.abcd_123"],
    }[holds]
    for name in names:
        (folder / name).write_text("mine: 1\n")
    folder.chmod(0o755)
    if holds in ("nothing", "a run that was begun"):
        run_pipeline(project / "examples/run.yaml", folder, Options(until="prompts"))
        assert (folder / "prompts/manifest.json").is_file()
        assert not list(folder.glob(".config*"))
    else:
        with pytest.raises(InputError, match="is not the folder of a run, and is left as it is"):
            run_pipeline(project / "examples/run.yaml", folder, Options(until="prompts"))
        assert [path.name for path in folder.iterdir()] == names
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_parent_folder_is_no_run(project, monkeypatch):
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    mode = project.stat().st_mode
    with pytest.raises(InputError, match="the name of a run"):
        run_pipeline(project / "examples/run.yaml", Path(".."), Options(until="prompts"))
    assert project.stat().st_mode == mode and not (project / "config.yaml").exists()


def test_a_new_run_is_private_and_leftovers_of_a_kill_are_removed(project, monkeypatch):
    monkeypatch.chdir(project)
    run(project, until="prompts")
    folder = project / "runs/r"
    assert folder.stat().st_mode & 0o777 == 0o700
    left = [folder / ".metrics.json.abcd1234", folder / "prompts/.records.jsonl.x_y_z_12"]
    for path in left:
        path.write_text("half")
    (folder / ".notes").write_text("mine")
    run(project, until="prompts")
    assert not any(path.exists() for path in left) and (folder / ".notes").exists()
