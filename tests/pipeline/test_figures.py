"""Runs that cannot measure something end well and say why; runs that stop keep their figures."""

import shutil

import pytest
import yaml

from cai.backends.budget import Budget
from cai.cli.app import report
from cai.cli.audit import show_audit
from cai.cli.run import run_pipeline
from cai.errors import InputError, LimitReached, RunFailed
from cai.files import read_json, write_json
from cai.pipeline.execute import figures_of

SMALL = {
    "sample": {"max_tokens": 30},
    "revise": {"rounds": 1, "max_tokens": 30},
    "sft": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3},
    "compare": {"max_tokens": 30},
    "judge": {"method": "critique"},
    "audit": {"gate": False, "examples": False},
    "reward": {"batch_size": 8, "learning_rate": 1e-3},
    "ppo": {"num_updates": 1, "epochs": 1, "rollout": {"batch_size": 4, "max_tokens": 12}},
    "evaluate": {"max_tokens": 12},
}
HELD = ("prompts.eval_red_team=held_red.jsonl", "prompts.eval_benign=eval_benign.jsonl")
NO_PROMPTS = "no held-out prompts: policies are not compared; set prompts.eval_red_team and prompts.eval_benign"
POLICIES = ("initial", "control", "sl_cai", "rl_cai")


@pytest.fixture(scope="module")
def begun(root, taught, tmp_path_factory):
    """A project with a run of the mandatory keys alone, up to its reward model."""
    folder = tmp_path_factory.mktemp("project")
    for name, source, count in (
        ("red", "train_red_team", 6),
        ("benign", "train_benign", 6),
        ("held_red", "eval_red_team", 2),
        ("eval_benign", "eval_benign", 2),
    ):
        lines = (root / f"examples/prompts/{source}.jsonl").read_text().splitlines(keepends=True)
        (folder / f"{name}.jsonl").write_text("".join(lines[:count]))
    mandatory = {
        "constitution": "reference",
        "prompts": {"red_team": "red.jsonl", "benign": "benign.jsonl"},
    }
    (folder / "run.yaml").write_text(
        yaml.safe_dump(mandatory | SMALL | {"models": {"initial": taught}})
    )
    run_pipeline(folder / "run.yaml", folder / "run", "reward", [], [], False, Budget())
    return folder


@pytest.fixture
def project(begun, tmp_path, monkeypatch):
    shutil.copytree(begun, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "project"


def run(project, *settings, until="", budget=None):
    run_pipeline(
        project / "run.yaml", project / "run", until, [], settings, False, budget or Budget()
    )
    return read_json(project / "run/metrics.json")


def policy_table(shown):
    return shown.out.rsplit("held-out prompts\n", 1)[1]


def test_without_held_out_prompts_policies_are_not_compared(project, capsys):
    metrics = run(project)
    assert (
        "policies" not in metrics
        and metrics["notes"] == [NO_PROMPTS]
        and metrics["unfinished"] == []
    )
    assert metrics["ppo"]["kl"] is not None and "gold_accuracy" not in metrics["reward_model"]
    assert "order_consistency" not in metrics["judge"] and metrics["judge"]["n"] > 0
    assert (
        "examples_right" not in metrics["stages"]["audit"]
        and "adversarial_flips" not in metrics["stages"]["audit"]
    )
    shown = capsys.readouterr()
    assert (
        shown.out.splitlines().count(NO_PROMPTS) == 1
        and "evasive" not in shown.out
        and shown.err == ""
    )
    page = (project / "run/report.html").read_text()
    assert NO_PROMPTS in page and "<th>policy</th>" not in page and "Not finished" not in page
    show_audit(project / "run")
    assert "nan" not in capsys.readouterr().out


def test_one_set_of_held_out_prompts_is_enough(project, capsys):
    metrics = run(project, HELD[0], "monitor.eval_every=1", "evaluate.gold=cai.reference.evaluation:gold")
    assert metrics["notes"] == [
        "no held-out benign prompts: nothing is measured on them; set prompts.eval_benign"
    ]
    metrics = metrics["policies"]["rl_cai"]
    assert {"harmful_rate", "refusal_rate"} <= set(metrics) and not {
        "helpful_rate",
        "evasive_rate",
    } & set(metrics)
    table = policy_table(capsys.readouterr())
    assert "harmful" in table and "helpful" not in table


def test_held_out_prompts_that_are_trained_on_are_counted(project, capsys):
    again = (
        "prompts.eval_red_team=red.jsonl",
        "prompts.eval_benign=benign.jsonl",
        "monitor.eval_every=1",
    )
    metrics = run(project, *again)
    said = [
        f"prompts.{kind}: 6 of 6 prompts are also in an earlier set and are left out"
        for kind in ("eval_red_team", "eval_benign")
    ]
    said += [
        "no held-out prompts are left: policies are not compared",
        "no held-out prompts: monitor.eval_every has nothing to look at",
    ]
    assert metrics["notes"] == said and "policies" not in metrics
    assert metrics["stages"]["prompts"]["repeated"] == {"eval_red_team": 6, "eval_benign": 6}
    shown = capsys.readouterr().out
    assert all(shown.count(line) == 2 for line in said)  # when the prompts are read, and at the end
    (project / "held_red.jsonl").write_text(
        (project / "held_red.jsonl").read_text() + (project / "red.jsonl").read_text()
    )
    metrics = run(project, *HELD, until="prompts")
    assert (
        "prompts.eval_red_team: 6 of 8 prompts are also in an earlier set"
        in capsys.readouterr().out
    )
    assert metrics["stages"]["prompts"]["eval_red_team"] == 2 and "notes" not in metrics


def test_answers_that_are_all_cut_off_have_their_cause(project, capsys):
    metrics = run(project, *HELD, "evaluate.max_tokens=2")
    assert metrics["notes"] == [
        f"{name}: all 4 answers were cut off at evaluate.max_tokens 2, so its reward, length and KL are left out; raise evaluate.max_tokens"
        for name in POLICIES
    ]
    for metrics in metrics["policies"].values():
        assert metrics["truncated"] == metrics["n"] == 4 and not {
            "reward",
            "length",
            "kl_from_initial",
        } & set(metrics)
    table = policy_table(capsys.readouterr())
    assert (
        metrics["notes"][0] in table
        and "KL from initial" not in table
        and " reward " not in table.splitlines()[0]
    )
    page = (project / "run/report.html").read_text()
    assert (
        metrics["notes"][0] in page
        and "KL from initial</th>" not in page
        and "4 of 4 answers to held-out prompts were truncated" in page
    )


def test_a_gold_function_with_flags_of_its_own(project, capsys):
    (project / "gold_of_dogs.py").write_text(
        "def flags(prompt, answer):\n"
        "    own = {'long': len(answer) > 20, 'has_dog': 'dog' in answer}\n"
        "    return own | ({'harmful': False} if prompt.kind == 'eval_red_team' else {})\n"
    )
    metrics = run(project, *HELD, "evaluate.gold=gold_of_dogs:flags", "monitor.eval_every=1")
    metrics = metrics["policies"]["sl_cai"]
    assert (
        metrics["harmful_rate"] == 0.0
        and metrics["harmful_rate_interval"][1] < 1
        and 0 <= metrics["long_rate"] <= 1
    )
    assert metrics["flags"]["long"].keys() == {"eval_red_team", "eval_benign"} and metrics["flags"][
        "harmful"
    ].keys() == {"eval_red_team"}
    assert not {"helpful_rate", "evasive_rate", "refusal_rate", "harmful_by_kind"} & set(metrics)
    table = policy_table(capsys.readouterr())
    assert (
        "long, benign" in table
        and "harmful" in table
        and "helpful" not in table
        and "evasive" not in table
    )
    page = (project / "run/report.html").read_text()
    assert "long, red-team</th>" in page and "helpful</th>" not in page
    # harmful says how good answers to red-team prompts are; of the others nothing is known
    assert all(look["eval_gold"] == 1.0 for look in metrics["stages"]["ppo"]["eval_points"])


def test_a_gold_function_that_cannot_say_what_is_good_is_not_watched_by(project, capsys):
    (project / "gold_of_length.py").write_text(
        "def flags(prompt, answer):\n    return {'long': len(answer) > 20}\n"
    )
    metrics = run(
        project, *HELD, "evaluate.gold=gold_of_length:flags", "monitor.eval_every=1", until="ppo"
    )
    eval_points = metrics["stages"]["ppo"]["eval_points"]
    assert eval_points and not any("eval_gold" in look for look in eval_points)
    assert (
        "evaluate.gold must return harmful for red-team or helpful for benign prompts"
        in capsys.readouterr().out
    )


def test_a_crash_in_the_evaluation_loses_no_figures(project, capsys):
    (project / "gold_that_breaks.py").write_text(
        "def flags(prompt, answer):\n    return {'harmful': {}['no']}\n"
    )
    (project / "run/metrics.json").unlink()
    with pytest.raises(
        RunFailed,
        match=r"gold_that_breaks:flags failed on an answer to .*KeyError: 'no' \(.*gold_that_breaks.py:2\)",
    ):
        run(project, *HELD, "evaluate.gold=gold_that_breaks:flags")
    metrics = read_json(project / "run/metrics.json")
    assert (
        metrics["unfinished"] == ["evaluate"]
        and metrics["stages"]["ppo"]["num_updates"] == 1
        and "policies" not in metrics
    )
    page = (project / "run/report.html").read_text()
    assert "<b>Not finished:</b> evaluate." in page and "No policy has been evaluated yet." in page
    assert f"report: {project / 'run/report.html'}" in capsys.readouterr().out


def test_any_error_in_a_stage_leaves_metrics_and_a_report(project, monkeypatch):
    def broken(run):
        raise ZeroDivisionError("a fault of our own")

    monkeypatch.setattr("cai.pipeline.evaluation.evaluate_run", broken)
    for path in ("metrics.json", "report.html"):
        (project / "run" / path).unlink()
    with pytest.raises(ZeroDivisionError, match="a fault of our own"):
        run(project, *HELD)
    assert (
        read_json(project / "run/metrics.json")["stages"]["reward"]
        and (project / "run/report.html").is_file()
    )


def test_a_run_that_the_audit_or_the_budget_stops_is_reported(project, capsys):
    with pytest.raises(RunFailed, match="not fit to train on"):
        run(project, "audit.gate=true", "audit.max_near_ties=0", "judge.principles=2")
    page = (project / "run/report.html").read_text()
    assert "<b>Not fit to train on:</b>" in page and "<b>Not finished:</b> audit, " in page
    with pytest.raises(LimitReached, match="budget"):
        run(project, "seed=5", budget=Budget(requests=1))
    assert read_json(project / "run/metrics.json")["unfinished"]
    capsys.readouterr()
    report(project / "run", project / "later.html")
    assert (
        capsys.readouterr().out.strip() == str(project / "later.html")
        and "Not finished" in (project / "later.html").read_text()
    )


def test_the_report_of_a_killed_run_is_made_from_its_stages(project, capsys):
    before = read_json(project / "run/metrics.json")
    (project / "run/metrics.json").unlink()
    shutil.rmtree(project / "run/judge")
    report(project / "run", None)
    page = (project / "run/report.html").read_text()
    assert (
        "<b>Not finished:</b> judge, ppo, dpo, evaluate." in page
        and "Nothing has been judged yet." in page
    )
    assert (
        before["memo"]["ever"]["sample"]["calls"] > 0
        and f'<td class="n">{before["cache"]["ever"]["sample"]["requests"]}</td>' in page
    )
    assert not (project / "run/metrics.json").exists()
    for stage in before["seconds"]:
        shutil.rmtree(project / "run" / stage, ignore_errors=True)
    with pytest.raises(InputError, match="holds no finished stage of a run"):
        report(project / "run", None)
    with pytest.raises(InputError, match="is not the folder of a run"):
        report(project, None)


def test_a_policy_whose_answers_had_no_score_has_no_reward(project):
    (project / "run/ppo").mkdir()
    made = {"metrics": {"num_updates": 3, "kl": 0.0, "unread": 12}, "seconds": 1.0}
    write_json(project / "run/ppo/manifest.json", made)
    assert figures_of(project / "run")["ppo"] == {"kl": 0.0}
