"""What differs between two runs, beside what each of them measured itself."""

import json

import pytest
from finished_runs import POLICIES, answers, make_finished_run
from studio_runs import step
from typer.testing import CliRunner

from cai.cli.app import app
from cai.constitution import load_constitution
from cai.errors import InputError
from cai.evaluate.behavior import compare_labels, compare_revisions
from cai.files import read_json
from cai.pipeline.run_comparison import compare_runs
from cai.records import Comparison, Preference, Prompt, Revision


def revised(sample, final):
    return Revision(id=sample.id, sample=sample, steps=(step("c", final),))


def label(number, p_first, *, swap=False):
    pair = Comparison.of(Prompt.of(f"p{number}"), "one", "two")
    found = Preference(id=str(number), comparison=pair, p_first=p_first, source="ai")
    return found.swap() if swap else found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    before, after = answers(POLICIES), answers(POLICIES | {"rl_cai": 3})
    kept = load_constitution("reference").principles["reference/insult"]
    edited = load_constitution("reference")
    texts = {**edited.principles, kept.id: kept.model_copy(update={"compare": "Which is kinder?"})}
    edited = edited.model_copy(update={"principles": texts})
    drafts = before["initial"]
    one = make_finished_run(
        folder / "one",
        before,
        [revised(draft, "kind") for draft in drafts],
        [label(0, 0.9), label(1, 0.2), label(2, 0.8)],
    )
    other = make_finished_run(
        folder / "other",
        after,
        [revised(draft, "kind" if n else "kinder") for n, draft in enumerate(drafts)],
        [label(0, 0.2), label(1, 0.2, swap=True)],
        constitution=edited,
        seed=1,
    )
    return one, other


def test_values_are_those_that_each_run_measured(runs):
    found = compare_runs(*runs)
    rows = [row for row in found.policies if row.metric in ("harmful", "refusal")]
    assert {row.policy for row in rows} == set(POLICIES)
    for run, side in zip(runs, ("one", "other"), strict=True):
        policies = read_json(run / "metrics.json")["policies"]
        for row in rows:
            share = policies[row.policy]["flags"][row.metric][row.prompt_set]
            value = getattr(row, side)
            assert (value.value, value.low, value.high) == pytest.approx(
                (share["value"], share["low"], share["high"])
            )
    assert found.notes == []
    assert [row.one.value for row in found.wins] == [0.75, 0.75]


def test_differences_are_paired_by_prompt(runs):
    rows = {(row.policy, row.metric): row for row in compare_runs(*runs).policies}
    harmful = rows["rl_cai", "harmful"]
    assert harmful.difference.value == 0.75  # 3 of the same 4 prompts
    assert harmful.difference.clusters == 4
    assert rows["sl_cai", "harmful"].difference.value == 0.0
    assert rows["sl_cai", "words"].one.value == rows["sl_cai", "words"].other.value


def test_constitution_and_settings(runs):
    found = compare_runs(*runs)
    assert [(c.principle, c.kind) for c in found.principles] == [("reference/insult", "changed")]
    assert found.settings == ["seed 0 -> 1"]


def test_the_same_drafts_and_comparisons(runs):
    revisions, labels = compare_runs(*runs).overlaps
    assert (revisions.changed.value, revisions.changed.n) == (0.25, 4)
    # the second label is the same one with its answers in the other order
    assert (labels.one, labels.other, labels.changed.value) == (3, 2, 0.5)
    assert compare_revisions([], []).changed is None
    assert compare_labels([], [label(0, 0.5)]).changed is None


def test_results_that_are_out_of_date_are_not_compared(runs, tmp_path):
    stale = make_finished_run(tmp_path / "stale", answers(POLICIES))
    config = (stale / "config.yaml").read_text()
    (stale / "config.yaml").write_text(config + "evaluate: {max_tokens: 7}\n")
    found = compare_runs(runs[0], stale)
    assert found.policies == found.wins == found.numbers == []
    assert "evaluate is out of date: evaluate.max_tokens" in found.notes[0]


def test_a_gold_function_of_the_user_is_called_only_if_that_is_wanted(runs, tmp_path):
    setting = {"evaluate": {"gold": "nowhere:gold"}}
    pair = [make_finished_run(tmp_path / n, answers(POLICIES), **setting) for n in ("a", "b")]
    found = compare_runs(*pair, own_functions=False)
    assert "nowhere:gold is code of your own" in found.notes[0]
    rates = [row for row in found.policies if row.metric == "harmful"]
    assert [row.one.value for row in rates] == [1.0, 0.25, 0.0]  # as they were measured
    assert all(row.difference is None for row in rates)
    with pytest.raises(InputError, match="cannot be imported"):
        compare_runs(*pair)
    found = compare_runs(runs[0], pair[0])
    assert "different gold functions" in found.notes[0]


def test_the_command(runs, tmp_path):
    def call(*arguments):
        done = CliRunner().invoke(app, ["compare", *map(str, arguments)], env={"COLUMNS": "80"})
        assert done.exit_code == 0, done.output
        return done.output

    text = call(*runs)
    assert "changed  reference/insult" in text
    assert "setting  seed 0 -> 1" in text
    assert "+75.0% (" in text
    assert max(map(len, text[text.index("policy") :].splitlines())) <= 80
    values = json.loads(call(*runs, "--json"))
    assert values["policies"][0]["policy"] == "initial"
    assert values["principles"][0]["texts"][0]["after"] == "Which is kinder?"
    assert values["overlaps"][1]["changed"]["value"] == 0.5
    with pytest.raises(InputError, match="is not the folder of a run"):
        compare_runs(runs[0], tmp_path)
