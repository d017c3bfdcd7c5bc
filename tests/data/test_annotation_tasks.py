"""Pairs go out as tasks of annotation tools, and labels come back as those tools export them."""

import json

import pytest
from typer.testing import CliRunner

from cai.cli.annotation import export_tasks
from cai.cli.app import app
from cai.data.annotation_tasks import QUESTION
from cai.data.preferences import read_preferences
from cai.files import write_records
from cai.records import Comparison, Message, Prompt

TALK = [
    Message(role="user", content="Hello"),
    Message(role="assistant", content="Hi"),
    Message(role="user", content="Mend the bike"),
]
PAIRS = [Comparison.of(Prompt.of(f"Question {n}?"), f"Kind {n}.", f"Rude {n}.") for n in range(8)]
PAIRS.append(Comparison.of(Prompt.of(TALK), "Kind one.", "Rude one."))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run"
    write_records(folder / "compare/records.jsonl", PAIRS)
    (folder / "config.yaml").write_text("constitution: reference\n")
    return folder


def annotated(tasks, raters):
    """The tasks as Label Studio exports them, with one annotation by each rater."""
    return [
        {
            "id": number,
            "data": task["data"],
            "annotations": [
                {
                    "id": f"{number}{rater}",
                    "completed_by": {"id": 7, "email": rater, "first_name": "", "last_name": ""},
                    "was_cancelled": False,
                    "ground_truth": False,
                    "result": [
                        {
                            "id": "x",
                            "from_name": "better",
                            "to_name": ["answer1", "answer2"],
                            "type": "pairwise",
                            "origin": "manual",
                            "value": {"selected": "left" if "Kind" in first else "right"},
                        }
                    ],
                }
                for rater in raters
            ],
            "predictions": [],
            "project": 1,
        }
        for number, task in enumerate(tasks)
        for first in [task["data"]["answer1"]]
    ]


def answered(records, raters):
    """The records as Argilla exports them, with one response by each rater."""
    return [
        record
        | {
            "responses": {
                QUESTION: [
                    {
                        "value": f"response{1 + ('Kind' not in record['fields']['response1'])}",
                        "user_id": rater,
                    }
                    for rater in raters
                ]
            },
            "_server_id": "0c5b4c2e-0000-0000-0000-000000000000",
        }
        for record in records
    ]


TOOLS = {"label-studio": ("tasks.json", annotated), "argilla": ("records.json", answered)}


def exported(folder, tool):
    export_tasks(folder, folder / tool, tool)
    return json.loads((folder / tool / TOOLS[tool][0]).read_text())


def imported(folder, rows):
    path = folder.parent / "exported.json"
    path.write_text(json.dumps(rows))
    return CliRunner().invoke(app, ["import", str(path), "--labels", str(folder)])


@pytest.mark.parametrize("tool", TOOLS)
def test_what_people_choose_comes_back(tool, folder):
    tasks = exported(folder, tool)
    shown = json.dumps(tasks)
    assert len(tasks) == len(PAIRS)
    assert "assistant: Hi" in shown
    texts = [task.get("data") or task["fields"] for task in tasks]
    firsts = [text.get("answer1") or text["response1"] for text in texts]
    assert 0 < sum("Kind" in first for first in firsts) < len(PAIRS)  # the side does not tell
    rows = TOOLS[tool][1](tasks, ("ann", "bo"))
    result = imported(folder, rows)
    assert result.exit_code == 0, result.output
    labels = [json.loads(line) for line in (folder / "human_labels.jsonl").read_text().splitlines()]
    assert {(row["pair"], row["rater"]) for row in labels} == {
        (pair.id, rater) for pair in PAIRS for rater in ("ann", "bo")
    }
    assert all(row["p_first"] == 1 and row["chosen"].startswith("Kind") for row in labels)
    again = imported(folder, rows)
    assert "left out: given before: 18" in again.output
    read = read_preferences(folder / "human_labels.jsonl")
    assert sorted(p.comparison.id for p in read.preferences) == sorted(p.id for p in PAIRS)


@pytest.mark.parametrize("tool", TOOLS)
def test_reward_human_reads_what_a_tool_exports_as_it_is(tool, folder, tmp_path):
    path = tmp_path / "exported.json"
    path.write_text(json.dumps(TOOLS[tool][1](exported(folder, tool), ("ann",))))
    read = read_preferences(path)
    assert all(p.comparison.first.startswith("Kind") for p in read.preferences)
    assert len(read.preferences) == len(PAIRS)


def test_what_is_no_label_of_the_run_is_counted(folder):
    rows = answered(exported(folder, "argilla"), ("ann",))
    rows[0]["responses"] = {QUESTION: [{"value": "tie", "user_id": "ann"}]}
    rows[1]["responses"] = {}
    rows[2] |= {"id": "other", "metadata": {}}
    rows[3]["fields"]["response1"] = "Edited."
    output = imported(folder, rows).output
    assert "left out: task without a choice: 1" in output
    assert "left out: of no pair of this run: 2" in output
    assert '"p_first": 0.5' in (folder / "human_labels.jsonl").read_text()


def test_a_row_that_is_no_task_is_named(folder):
    result = imported(folder, [{"text": "x"}])
    assert result.exit_code != 0
    assert not (folder / "human_labels.jsonl").exists()
