"""What people feed it by mistake, and where they run it: it says what is wrong in a line, loses nothing, and goes on."""

import json
import os
import resource
import shutil

import pytest
import yaml
from commands import cai, content, run

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


def test_an_edited_file_setting_or_model_is_noticed_and_said(project, taught):
    shutil.copytree(taught, project / "model")
    config = yaml.safe_load((project / "examples/run.yaml").read_text()) | {
        "models": {"initial": "model"}
    }
    (project / "examples/run.yaml").write_text(yaml.safe_dump(config))

    def said(*arguments):
        return cai(
            project, "run", "examples/run.yaml", "--run", "runs/r", "--until", "sample", *arguments
        ).stdout

    assert "made again" not in said() and said().count("up to date") == 2
    with (project / "examples/red.jsonl").open("a") as file:
        file.write('{"prompt": "One more."}\n')
    again = said()
    assert (
        "made again: red.jsonl has another content" in again
        and "made again: prompts came out otherwise" in again
    )
    assert "made again: seed 0 -> 1, sample.max_tokens 40 -> 30" in said(
        "--set", "sample.max_tokens=30", "--set", "seed=1"
    )
    said()
    (project / "model/generation_config.json").write_text("{}")
    assert (
        "made again: the model model is another" in said() and said().count("up to date") == 2
    )


def test_a_full_disk_is_named_and_what_was_done_is_kept(project):
    run(project, "--until", "reward", name="whole")
    limits, codes = [3_000, 15_000, 50_000, 150_000], []
    for limit in limits:  # bytes that one file may have
        done = cai(
            project,
            "run",
            "examples/run.yaml",
            "--run",
            "runs/r",
            "--until",
            "reward",
            check=False,
            preexec_fn=lambda limit=limit: resource.setrlimit(
                resource.RLIMIT_FSIZE, (limit, limit)
            ),
        )
        assert "Traceback" not in done.stderr and done.returncode in (0, 4), done.stderr
        assert done.returncode == 0 or "too large" in done.stderr or "disk" in done.stderr
        codes.append(done.returncode)
    assert codes[:3] == [4, 4, 4]
    run(project, "--until", "reward")
    assert content(project)[0] == content(project, "whole")[0]
    assert not list((project / "runs/r").rglob("*.partial"))


def test_odd_characters_go_through_to_the_report(project):
    rows = "".join(json.dumps({"prompt": f"How do I wash the dog? {odd}"}) + "\n" for odd in ODD)
    (project / "examples/red.jsonl").write_text(rows)
    metrics = run(project, "--until", "judge")
    assert metrics["stages"]["prompts"]["red_team"] == len(ODD)
    page = (project / "runs/r/report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    ids = [
        json.loads(line)["id"]
        for line in (project / "runs/r/prompts/records.jsonl")
        .read_text(encoding="utf-8")
        .split("\n")
        if line
    ]
    run(project, "--until", "prompts", name="again")
    assert ids == [
        json.loads(line)["id"]
        for line in (project / "runs/again/prompts/records.jsonl").open(
            encoding="utf-8", newline="\n"
        )
    ]
    assert cai(project, "export", "runs/r").returncode == 0


def test_a_prompt_that_is_too_long_is_a_status(project):
    with (project / "examples/red.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "dog " * 250_000}) + "\n")
    metrics = run(project, "--until", "judge")
    assert (
        metrics["stages"]["sample"]["too_long"] == 1
        and metrics["stages"]["revise"]["revisions"] == 8
    )


def test_plain_surroundings_get_plain_text(project):
    plain = {k: v for k, v in os.environ.items() if k not in ("LANG", "LC_ALL", "TERM")} | {
        "LC_ALL": "C",
        "TERM": "dumb",
        "COLUMNS": "20",
    }
    for arguments in (
        ("run", "examples/run.yaml", "--run", "runs/r", "--until", "sample"),
        ("status", "runs/r"),
        ("preview", "small"),
    ):
        done = cai(project, *arguments, env=plain, check=False)
        assert (
            done.returncode == 0 and "\x1b" not in done.stdout and "Traceback" not in done.stderr
        ), done.stderr


@pytest.mark.parametrize(
    ("name", "code"),
    [("-dash", 0), ("a.b-c_1", 0), ("a b", 3), ("ünï", 3), ("x" * 255, 3), ("a\nb", 3)],
)
def test_names_of_runs(project, name, code):
    done = cai(
        project,
        "run",
        "examples/run.yaml",
        "--run",
        f"runs/{name}",
        "--until",
        "prompts",
        check=False,
    )
    assert (
        done.returncode == code
        and "Traceback" not in done.stderr
        and sorted(os.listdir(project))[0] == "constitution"
    )


def test_labels_that_failed_the_audit_are_not_exported_by_accident(project):
    strict = ("--set", "audit.gate=true", "--set", "audit.max_near_ties=0", "--until", "audit")
    stopped = cai(project, "run", "examples/run.yaml", "--run", "runs/r", *strict, check=False)
    assert stopped.returncode == 5 and "not fit to train on" in stopped.stderr
    refused = cai(project, "export", "runs/r", check=False)
    assert (
        refused.returncode == 3
        and "--force" in refused.stderr
        and not (project / "runs/r/export").exists()
    )
    cai(project, "export", "runs/r", "--force")
    assert "unfit to train on" in (project / "runs/r/export/README.md").read_text()
