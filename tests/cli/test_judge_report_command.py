"""``cai judge-report``: several judges in one report, from files to the page."""

import json
import re

import pytest

from cai.errors import InputError, LimitReached, RunFailed

JUDGES = '''
from cai.backends.protocol import OptionLogprobs
from cai.backends.scripted import ScriptedBackend

SURE = (-0.1, -2.5)

def shown(messages):
    """Whether the apple is shown first."""
    text = messages[-1].content
    return text.rfind("apple") < text.rfind("pear")

def oracle(messages, options):
    return SURE if shown(messages) else SURE[::-1]

def first(messages, options):
    return SURE

def silent(messages, options):
    return (-9.0, -9.0)

def answer(messages, seed):
    return "An apple of my own."

def make_oracle():
    return ScriptedBackend(answer, oracle, name="oracle")

def make_first():
    return ScriptedBackend(answer, first, name="first")

def make_silent():
    return ScriptedBackend(answer, silent, name="silent")

class Failing(ScriptedBackend):
    def respond(self, requests):
        for i, _ in enumerate(requests):
            yield i, OptionLogprobs((), 0, "failed", reason="no such host")

def make_failing():
    return Failing(answer, first, name="failing")
'''
ORACLE, FIRST, SILENT, FAILING = (
    f"scripted_judges:make_{name}" for name in ("oracle", "first", "silent", "failing")
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with judges and labeled pairs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "scripted_judges.py").write_text(JUDGES)
    rows = []
    for i in range(40):
        apple_first = i % 2 == 0
        answers = [f"apple {i}", f"pear {i}" + " and more" * (i % 3 > 0)][
            :: 1 if apple_first else -1
        ]
        rows.append(
            {
                "question": f"Question {i}?",
                "response_A": answers[0],
                "response_B": answers[1],
                "label": "A>B" if apple_first else "B>A",
                "source": "even | *odd*" if i % 4 else "\x1b[31mred",
            }
        )
    write(tmp_path / "pairs.jsonl", rows)
    return tmp_path


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def report(folder, name="pairs"):
    return json.loads((folder / f"{name}.judge-report.json").read_text())


def test_several_judges_in_one_report(folder, cai):
    shown = cai("judge-report", ORACLE, FIRST, "--on", "pairs.jsonl", "--no-examples").stdout
    made = report(folder)
    assert list(made["judges"]) == [ORACLE, FIRST]
    oracle, first = made["judges"].values()
    assert oracle["accuracy"]["value"] == 1 and first["accuracy"]["value"] == 0.5
    assert oracle["orders"]["consistency"]["value"] == 1
    assert first["orders"]["same_place"]["value"] == 1
    assert oracle["cost"]["requests"] == first["cost"]["requests"] == 80
    (both,) = made["between_judges"]
    assert both["agreement"]["value"] == 0.5 and both["accuracy_difference"]["value"] == 0.5
    assert set(made["baselines"]) == {"always first", "longer wins", "random"}
    assert made["baselines"]["longer wins"]["accuracy"]["value"] == pytest.approx(7 / 40)
    assert made["data"]["pairs"] == made["data"]["conversations"] == 40
    assert re.search(r"make_oracle +40 +100% \(91–100%\)", shown)
    assert oracle["beats_baselines"] and f"{ORACLE} beats the best baseline" in shown
    assert f"{FIRST} does not clearly beat the best baseline" in shown
    page = (folder / "pairs.judge-report.md").read_text()
    assert "## Agreement with people" in page and "## Accuracy by source" in page
    assert "even \\| \\*odd\\*" in page  # what others wrote stays in its cell
    assert "\x1b" not in shown


def test_the_page_is_a_markdown_table_throughout(folder, cai):
    cai("judge-report", ORACLE, FIRST, "--on", "pairs.jsonl")
    tables = re.findall(
        r"((?:^\|.*\|\n)+)", (folder / "pairs.judge-report.md").read_text(), re.MULTILINE
    )
    assert len(tables) >= 8
    for table in tables:
        columns = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(columns) == 1, table


def test_reading_methods_are_compared(folder, cai):
    methods = ("--method", "option_logprobs", "--method", "critique")
    cai("judge-report", ORACLE, *methods, "--on", "pairs.jsonl", "--no-examples")
    assert list(report(folder)["judges"]) == [f"{ORACLE}, option_logprobs", f"{ORACLE}, critique"]
    assert "consistency" in report(folder)["judges"][f"{ORACLE}, critique"]["orders"]


def test_tests_from_the_examples(folder, cai):
    cai("judge-report", FIRST, "--on", "pairs.jsonl", "--constitution", "reference")
    tests = report(folder)["judges"][FIRST]["tests"]
    assert tests["plain"]["value"] == 0  # asked in both orders, it sees ties
    assert tests["irrelevant"]["value"] == 1
    assert tests["adversarial_flips"] == {"n": 0}  # there is no right verdict to flip
    baselines = report(folder)["baselines"]
    assert baselines["always first"]["tests"]["crossed"]["n"] == 16


def test_a_stopped_report_goes_on_and_pays_nothing_twice(folder, cai):
    command = ("judge-report", ORACLE, FIRST, "--on", "pairs.jsonl", "--no-examples")
    stopped = cai(*command, "--budget", "requests=90", code=1)
    assert isinstance(stopped.exception, LimitReached)
    assert not (folder / "pairs.judge-report.json").exists()
    assert "70 requests, 90 from the cache" in cai(*command).stdout
    before = (folder / "pairs.judge-report.json").read_bytes()
    assert "0 requests, 160 from the cache" in cai(*command).stdout
    assert (folder / "pairs.judge-report.json").read_bytes() == before


def test_dry_run_counts_exactly(folder, cai):
    command = ("judge-report", ORACLE, "--on", "pairs.jsonl", "--constitution", "reference")
    shown = cai(*command, "--dry-run", "--price", "1/2").stdout
    requests = int(re.search(r"requests +([\d,]+)\n", shown)[1].replace(",", ""))
    assert not list(folder.glob("*.sqlite")) and not list(folder.glob("*.json"))
    done = cai(*command, "--price", "1/2").stdout
    assert f"{requests:,} requests, 0 from the cache" in done.replace("  ", " ")
    cost = report(folder)["judges"][ORACLE]["cost"]
    assert cost["money"] == pytest.approx((cost["tokens_in"] + 2 * cost["tokens_out"]) / 1e6)


def test_a_judge_that_says_something_else_is_counted_not_guessed(folder, cai):
    shown = cai("judge-report", SILENT, "--on", "pairs.jsonl", "--no-examples").stdout
    found = report(folder)["judges"][SILENT]
    assert found["unread"]["value"] == 1 and "accuracy" not in found
    assert found["statuses"] == {"unscored": 40}
    assert "less than 5% of the probability" in (folder / "pairs.judge-report.md").read_text()
    assert re.search(r"make_silent +100%", shown)


def test_own_answers_of_a_model(folder, cai):
    own = ("--own", ORACLE)
    cai("judge-report", ORACLE, FIRST, "--on", "pairs.jsonl", "--no-examples", *own)
    preference = report(folder)["judges"][ORACLE]["self_preference"]
    assert preference["own"] == ORACLE and preference["others"] == "other judges"
    # its own answer has an apple: it beats a pear, and what comes first of two apples
    assert preference["by_judge"]["n"] == 40
    assert preference["by_others"]["value"] == 0.5


def test_own_answers_in_the_data(folder, cai):
    rows = [
        {"prompt": f"{i}?", "first": f"apple {i}", "second": f"pear {i}", "label": "ab"[i % 2]}
        | {"model_a": "Make_Oracle", "model_b": "other"}
        for i in range(20)
    ]
    write(folder / "own.jsonl", rows)
    cai("judge-report", ORACLE, "--on", "own.jsonl", "--no-examples", "--own", "Make_Oracle")
    preference = report(folder, "own")["judges"][ORACLE]["self_preference"]
    assert preference["others"] == "people"
    assert (preference["by_judge"]["value"], preference["by_others"]["value"]) == (1, 0.5)
    assert preference["difference"]["value"] == 0.5


def test_several_files_are_kinds_and_several_annotators_a_ceiling(folder, cai):
    rows = [
        {"instruction": f"Do {i}", "input": "", "response1": f"apple {i}", "response2": f"pear {i}"}
        | {"annotator1": 1, "annotator2": 1, "annotator3": 1 + i % 2}
        for i in range(10)
    ]
    write(folder / "panda.json", [])
    (folder / "panda.json").write_text(json.dumps(rows))
    files = ("--on", "pairs.jsonl", "--on", "panda.json")
    shown = cai("judge-report", ORACLE, *files, "--no-examples").stdout
    made = report(folder)
    assert set(made["judges"][ORACLE]["by_subset"]["file"]) == {"pairs.jsonl", "panda.json"}
    assert made["data"]["several_annotators"] == 10 and made["people"]["n"] == 60
    assert "two annotators agree on 67%" in shown


def test_pairs_without_labels_and_a_judge_named_twice(folder, cai):
    write(folder / "bare.jsonl", [{"prompt": "One?", "first": "apple", "second": "a pear"}])
    shown = cai("judge-report", ORACLE, ORACLE, "--on", "bare.jsonl", "--no-examples").stdout
    found = report(folder, "bare")["judges"][ORACLE]
    assert "accuracy" not in found and found["orders"]["consistency"]["value"] == 1
    assert found["length"]["longer_wins"]["value"] == 0
    assert "1 pairs, 0 with a label" in shown and "baseline" not in shown


def test_a_limit_draws_the_same_pairs_again(folder, cai):
    command = ("judge-report", ORACLE, "--on", "pairs.jsonl", "--no-examples", "--limit", "7")
    cai(*command)
    assert report(folder)["data"]["pairs"] == report(folder)["data"]["labels"] == 7
    assert "0 requests, 14 from the cache" in cai(*command).stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--labels", "0=better"), "--labels 0=better: must look like"),
        (("--method", "guess"), "judge.method"),
        (("--own", "a", "--own", "b"), "name one model for all judges"),
        (("--gold", "nothing"), "has no column 'nothing'"),
        (("--out", "notes.json"), "is no report on judges"),
        (("--on", "missing.jsonl"), "missing.jsonl"),
    ],
)
def test_wrong_options_are_one_line_and_nothing_is_asked(folder, cai, options, said):
    (folder / "notes.json").write_text('{"my": "notes"}')
    done = cai("judge-report", ORACLE, "--on", "pairs.jsonl", *options, code=1)
    assert isinstance(done.exception, InputError) and said in str(done.exception)
    assert not list(folder.glob("*.sqlite"))
    assert (folder / "notes.json").read_text() == '{"my": "notes"}'


def test_a_judge_whose_requests_fail(folder, cai):
    done = cai("judge-report", FAILING, "--on", "pairs.jsonl", "--no-examples", code=1)
    assert isinstance(done.exception, RunFailed)
    assert "40 of 40 requests failed" in str(done.exception)
    assert report(folder)["judges"][FAILING]["statuses"] == {"failed": 40}
