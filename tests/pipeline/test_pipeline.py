"""The whole pipeline on an untrained model: it runs, goes on where it stopped, and repeats only what changed."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from commands import cai, content, run

from cai.errors import InputError
from cai.files import read_json
from cai.pipeline.stages import STAGES


def test_from_prompts_to_report_and_again_without_a_call(project):
    first = run(project)
    assert first["memo"]["calls"] > 100
    assert set(first["policies"]) == {"initial", "control", "sl_cai", "rl_cai", "dpo"}
    assert {"kl", "reward_before", "reward_after"} == set(first["ppo"]) and first["reward_model"][
        "n"
    ] >= 0
    assert first["stages"]["reward"]["sources"]["human"] == 1
    assert first["stages"]["reward"]["skipped_human_rows"] == {"human.jsonl: an answer is empty": 1}
    before = content(project)
    again = run(project)
    assert again["memo"]["calls"] == 0 and content(project) == before
    html = (project / "runs/r/report.html").read_text()
    assert (
        "<script" not in html
        and "http://" not in html.replace("http://www.w3.org", "")
        and "human rows left out" in html
    )
    status = cai(project, "status", "runs/r").stdout
    assert status.count("finished") == len(STAGES)


def test_a_run_is_exported_for_load_dataset_with_a_card(project):
    import datasets

    run(project, "--until", "judge")
    labels = [
        json.loads(line)
        for line in (project / "runs/r/judge/records.jsonl").read_text().splitlines()
    ]
    usable = sum(row["p_first"] is not None and abs(row["p_first"] - 0.5) > 1e-6 for row in labels)
    for form in ("trl", "parquet"):
        done = cai(project, "export", "runs/r", "--to", f"out/{form}", "--format", form)
        loaded = datasets.load_dataset(
            str(project / "out" / form),
            "preferences",
            split="train",
            cache_dir=str(project / "cache" / form),
        )
        assert (
            len(loaded) == usable
            and all(row["p_chosen"] > 0.5 for row in loaded)
            and f"{usable:>8,}" in done.stdout
        )
    card = (project / "out/trl/README.md").read_text()
    assert (
        "constitution hash" in card
        and "verdict turns with the order" in card
        and labels[0]["judge"] in card
    )
    refused = cai(project, "export", "runs/r", "--format", "trll", check=False)
    assert refused.returncode == 3 and "did you mean 'trl'?" in refused.stderr


def test_seeds_and_runs_are_repeatable(project):
    run(project, "--until", "judge")
    elsewhere = os.environ | {"TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    run(project, "--until", "judge", name="again", env=elsewhere)
    assert content(project)[0] == content(project, "again")[0]
    run(project, "--until", "judge", "--set", "seed=1", name="other")
    assert (
        content(project)[0]["revise/records.jsonl"]
        != content(project, "other")[0]["revise/records.jsonl"]
    )


def test_editing_one_principle_repeats_only_what_used_it(project):
    run(project, "--until", "revise")
    records = [
        json.loads(line)
        for line in (project / "runs/r/revise/records.jsonl").read_text().splitlines()
    ]
    name = records[0]["steps"][1]["principle"]
    path = project / "principles" / f"{name}.yaml"
    path.write_text("# only a comment\n" + path.read_text())
    assert run(project, "--until", "revise")["memo"]["calls"] == 0
    document = yaml.safe_load(path.read_text())
    document["critique"] = "Look for it once more. " + document["critique"]
    path.write_text(yaml.safe_dump(document))
    touched = sum(
        2 * (2 - next(i for i, s in enumerate(r["steps"]) if s["principle"] == name))
        for r in records
        if name in [s["principle"] for s in r["steps"]]
    )
    after = run(project, "--until", "revise")["memo"]
    everything = 2 * 2 * len(records)  # a critique and a revision in each of two rounds
    assert 0 < after["calls"] <= touched < everything
    assert after["calls"] + after["hits"] == everything


def test_diff_shows_what_an_edit_does_and_pays_only_for_that(project):
    run(project, "--until", "judge")
    nothing = cai(project, "diff", "runs/r", "constitution/small.yaml", "--on", "runs/r").stdout
    assert (
        "nothing that a model reads" in nothing
        and "0 of" in nothing
        and "model calls made: 0;" in nothing
    )
    steps = [
        step
        for line in (project / "runs/r/revise/records.jsonl").read_text().splitlines()
        for step in json.loads(line)["steps"]
    ]
    name = steps[0]["principle"]
    path = project / "principles" / f"{name}.yaml"
    document = yaml.safe_load(path.read_text())
    path.write_text(
        yaml.safe_dump(
            document | {"critique": "Look for it once more. " + document["critique"]},
            sort_keys=False,
        )
    )
    shown = cai(project, "diff", "runs/r", "constitution/small.yaml", "--on", "runs/r").stdout
    assert f"changed  {name}" in shown and "{+" in shown
    touched, chains = map(
        int, re.search(r"revisions: (\d+) of (\d+) chains are touched", shown).groups()
    )
    requests = int(re.search(r"model calls made: (\d+);", shown).group(1))
    assert 0 < touched < chains and requests > 0
    # the run that follows finds the answers of the diff in its memo
    assert cai(
        project, "diff", "runs/r", "constitution/small.yaml", "--on", "runs/r"
    ).stdout.endswith("\n")
    assert (
        "model calls made: 0;"
        in cai(project, "diff", "runs/r", "constitution/small.yaml", "--on", "runs/r").stdout
    )
    assert run(project, "--until", "revise")["memo"]["calls"] == 0
    table = cai(project, "influence", "runs/r").stdout
    assert "labels that turn" in table and "reference/" in table


def test_the_reward_model_may_be_of_another_family_than_the_policy(project, tiny_gpt2):
    metrics = run(project, "--set", f"models.reward={tiny_gpt2}", "--until", "ppo")
    assert read_json(project / "runs/r/reward/checkpoint/config.json")["model_type"] == "gpt2"
    assert read_json(project / "runs/r/ppo/checkpoint/config.json")["model_type"] == "llama"
    assert (
        metrics["stages"]["ppo"]["num_updates"] == 2
        and tiny_gpt2 in read_json(project / "runs/r/reward/manifest.json")["made_from"]["models"]
    )


def test_the_judge_itself_can_be_the_reward(project):
    settings = ("--set", "ppo.reward_source=judge", "--set", "ppo.num_updates=1", "--until", "ppo")
    first = run(project, *settings)
    assert (
        first["stages"]["ppo"]["num_updates"] == 1
        and first["stages"]["ppo"]["unread"] == 0
        and -1 <= first["ppo"]["reward_after"] <= 1
    )
    assert first["memo"]["by_stage"]["ppo"]["calls"] > 0
    assert run(project, *settings)["memo"]["calls"] == 0
    # the stage reads the constitution now, so an edit makes it anew
    path = project / "principles/reference/insult.yaml"
    path.write_text(
        path.read_text().replace("mean words about a person", "words that hurt a person")
    )
    assert "ppo" in run(project, *settings)["memo"]["by_stage"]


def test_the_judge_can_be_the_gold_that_is_watched(project):
    settings = (
        "--set",
        "monitor.judge=true",
        "--set",
        "monitor.eval_every=1",
        "--set",
        "ppo.num_updates=1",
        "--until",
        "ppo",
    )
    first = run(project, *settings)
    eval_points = first["stages"]["ppo"]["eval_points"]
    assert [look["update"] for look in eval_points] == [0, 1] and all(
        0 <= look["eval_gold"] <= 1 for look in eval_points
    )
    held = first["stages"]["prompts"]["eval_red_team"] + first["stages"]["prompts"]["eval_benign"]
    # one rating per answer; an answer that is empty, or written twice, is asked for once or not at all
    assert 0 < sum(first["memo"]["by_stage"]["ppo"].values()) <= 2 * held
    dry = cai(project, "run", "examples/run.yaml", *settings[:-2], "--dry-run").stdout
    assert {line.split()[0]: line.split()[1] for line in dry.splitlines() if line}["ppo"] == str(
        2 * held
    )
    assert run(project, *settings)["memo"]["calls"] == 0


def test_redo_and_until(project):
    run(project, "--until", "sample")
    assert not (project / "runs/r/revise").exists()
    folder = project / "runs/r/sample/manifest.json"
    before = folder.stat().st_mtime_ns
    metrics = run(project, "--until", "sample", "--redo", "sample")
    assert folder.stat().st_mtime_ns > before and metrics["memo"] == metrics["memo"] | {
        "calls": 0,
        "hits": 14,
    }


def test_a_file_that_was_changed_behind_its_back_is_made_again(project):
    run(project, "--until", "sample")
    records = project / "runs/r/sample/records.jsonl"
    whole = records.read_bytes()
    records.write_bytes(whole[:-40])
    run(project, "--until", "sample")
    assert records.read_bytes() == whole


def test_dry_run_needs_no_model(project):
    config = yaml.safe_load((project / "examples/run.yaml").read_text()) | {
        "models": {"initial": "/no/such/model"}
    }
    (project / "examples/run.yaml").write_text(yaml.safe_dump(config))
    done = cai(project, "run", "examples/run.yaml", "--dry-run")
    rows = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if line}
    assert rows["sample"] == "14" and rows["revise"] == "32" and rows["compare"] == "28"
    assert not (project / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "examples/run.yaml", "--set", "ppo.update=3"), 3, "did you mean 'updates'"),
        (("run", "examples/run.yaml", "--until", "rewards"), 3, "did you mean 'reward'"),
        (("run", "examples/none.yaml"), 3, "cannot be read"),
        (("run", "examples/run.yaml", "--run", "runs/a b"), 3, "the name of a run"),
        (
            ("run", "examples/run.yaml", "--set", "prompts.red_team=nothing.jsonl"),
            3,
            "there is no examples/nothing.jsonl",
        ),
        (
            ("run", "examples/run.yaml", "--set", "constitution=harmles"),
            3,
            "did you mean 'harmless'",
        ),
        (("status", "examples"), 3, "is not the folder of a run"),
        (("runn",), 2, "run"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(project, arguments, code, message):
    done = cai(project, *arguments, check=False)
    assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr


def test_a_second_process_is_refused(project):
    from filelock import FileLock

    run(project, "--until", "prompts")
    with FileLock(project / "runs/r/.lock"):
        done = cai(project, "run", "examples/run.yaml", "--run", "runs/r", check=False)
    assert done.returncode == 3 and "is in use by process" in done.stderr


def kill_and_finish(project: Path, kills: int, longest: float) -> int:
    """Kill the run at random moments, then let it finish; returns how often it was killed."""
    moments, killed = random.Random(7), 0
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-m", "cai", "run", "examples/run.yaml", "--run", "runs/killed"],
            cwd=project,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(0.5, longest))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    run(project, name="killed")
    return killed


@pytest.mark.parametrize("kills", [4, pytest.param(20, judge_test_metrics=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_the_same(project, kills):
    started = time.monotonic()
    whole = run(project, name="whole")
    seconds = time.monotonic() - started
    assert kill_and_finish(project, kills, seconds) >= 2
    assert content(project, "killed") == content(project, "whole")
    ever = {
        name: read_json(project / "runs" / name / "metrics.json")["memo"]["ever"]
        for name in ("whole", "killed")
    }
    assert ever["killed"] == ever["whole"] and whole["memo"]["calls"] > 0
    assert os.listdir(project / "runs/killed") and not list(
        (project / "runs/killed").rglob("*.partial")
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_word_and_it_goes_on(project, number):
    run(project, "--until", "judge", name="whole")
    command = [
        sys.executable,
        "-m",
        "cai",
        "run",
        "examples/run.yaml",
        "--run",
        "runs/r",
        "--until",
        "judge",
    ]
    process = subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("sample"):
            break
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (
        process.returncode == 128 + number
        and "run the same command again to go on" in said
        and "Traceback" not in said
    )
    run(project, "--until", "judge")
    assert content(project)[0] == content(project, "whole")[0]


def test_a_run_folder_that_cannot_be_written_is_said_before_any_call(project):
    (project / "runs").mkdir()
    (project / "runs" / "r").write_text("a file where the folder should be")
    done = cai(project, "run", "examples/run.yaml", "--run", "runs/r", check=False)
    assert done.returncode == 3 and "cannot be written" in done.stderr


def test_prompt_files_with_problems_are_refused_with_line_numbers(tmp_path):
    from cai.data.prompts import read_prompts

    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"prompt": "fine"}\n{"promt": "x"}\n{"prompt": ""}\n{"prompt": 3}\nnot json\n[1]\n{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    )
    with pytest.raises(InputError) as caught:
        read_prompts(path, "red_team")
    found = sorted(str(p).removeprefix(f"{path}:") for p in caught.value.problems)
    assert len(found) >= 2 and any(line.startswith("5:1: invalid JSON") for line in found)
    path.write_text(
        '{"prompt": "fine"}\n{"promt": "x"}\n{"prompt": ""}\n{"prompt": 3}\n{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    )
    with pytest.raises(InputError) as caught:
        read_prompts(path, "red_team")
    found = sorted(str(p).removeprefix(f"{path}:") for p in caught.value.problems)
    assert [line.split(":")[0] for line in found] == [
        "2",
        "3",
        "4",
        "5",
    ] and "did you mean" in found[0]


def test_a_second_round_begins_with_the_policy_of_the_first(project):
    one = run(project, "--set", "dpo.epochs=0")
    two = run(project, "--set", "dpo.epochs=0", "--set", "rounds=2")
    folder = project / "runs/r"
    assert set(two["stages"]) - set(one["stages"]) == {
        "compare-2",
        "judge-2",
        "audit-2",
        "reward-2",
        "ppo-2",
    }
    # of the first round nothing is done again, and the reward model of the second has seen the labels of both
    assert {"sample", "revise", "compare", "judge"}.isdisjoint(
        name for name, c in two["memo"]["by_stage"].items() if c["calls"]
    )
    labels = sum(two["stages"][name]["labels"] for name in ("judge", "judge-2"))
    seen = two["stages"]["reward-2"]
    assert seen["sources"]["ai"] == labels > two["stages"]["reward"]["sources"]["ai"]
    origins = {
        o
        for line in (folder / "compare-2/records.jsonl").read_text().splitlines()
        for o in json.loads(line)["origins"]
    }
    assert origins == {"rl_cai_1"}
    assert set(two["policies"]) == {"initial", "control", "sl_cai", "rl_cai_1", "rl_cai"}
    assert two["policies"]["rl_cai_1"]["length"] == one["policies"]["rl_cai"]["length"]
    assert cai(project, "status", "runs/r").stdout.count("finished") == len(STAGES) + 5
    # what looks at labels afterwards looks at those of all rounds
    assert re.findall(r"^labels +(\d+)", cai(project, "audit", "runs/r").stdout, re.M) == [
        str(two["stages"][f"judge{n}"]["labels"]) for n in ("", "-2")
    ]
    cai(project, "export", "runs/r", "--force")
    exported = (project / "runs/r/export/preferences.jsonl").read_text().count("\n")
    left_out = sum(two["stages"][f"judge{n}"]["labels"] for n in ("", "-2")) - exported
    assert exported > two["stages"]["judge"]["labels"] - left_out and left_out < 6


def test_two_processes_make_the_records_that_one_makes(project):
    run(project, "--until", "judge")
    command = [
        sys.executable,
        "-m",
        "cai",
        "run",
        "examples/run.yaml",
        "--run",
        "runs/two",
        "--until",
        "judge",
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }
    each = [common | {"RANK": str(number), "LOCAL_RANK": str(number)} for number in range(2)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen(command, cwd=project, env=environment, **pipes) for environment in each
    ]
    said = [process.communicate(timeout=300) for process in started]
    assert not any(process.returncode for process in started), (
        said[0][1][-2000:] + said[1][1][-2000:]
    )
    one, two = content(project)[0], content(project, "two")[0]
    assert one.keys() == two.keys()
    for name in ("prompts", "sample", "revise", "compare"):
        assert one[f"{name}/records.jsonl"] == two[f"{name}/records.jsonl"], name
    labels = [
        [json.loads(line) for line in found["judge/records.jsonl"].splitlines()]
        for found in (one, two)
    ]
    assert all(abs(a["p_first"] - b["p_first"]) < 1e-3 for a, b in zip(*labels, strict=True))
    made = [read_json(project / f"runs/{name}/metrics.json")["memo"] for name in ("r", "two")]
    assert (
        made[0]["calls"] == made[1]["calls"]
        and "model calls made now" in said[0][0]
        and not said[1][0]
    )
    # and what two did, one finds done
    assert run(project, "--until", "judge", name="two")["memo"]["calls"] == 0
