"""``cai export --model`` and ``--push``: a model with its card, and nothing sent unasked."""

import json

import huggingface_hub
import pytest

from cai.errors import InputError, LimitReached
from cai.files import write_json

AUDIT = {
    "n": 40,
    "near_ties": {"value": 0.25, "low": 0.14, "high": 0.4, "n": 40},
    "gate_failures": ["labels near one half | 25%"],
}


@pytest.fixture
def run(run_folder):
    """A run with an audit of its labels."""
    (run_folder / "audit").mkdir()
    write_json(run_folder / "audit/audit.json", AUDIT)
    return run_folder


def test_the_card_says_constitution_judge_labels_and_limits(cai, run, tmp_path):
    out = tmp_path / "model"
    shown = cai("export", run, "--model", "sl_cai", "--to", out).stdout
    assert f"wrote sl_cai with its card to {out}" in shown
    card = (out / "README.md").read_text()
    assert "## Constitution" in card and "reference/insult" in card
    assert "| near one half | 25% | 14%–40% | 40 |" in card
    assert "## Known limits" in card and "labels near one half \\| 25%" in card
    assert (out / "constitution.lock.yaml").is_file() and list(out.glob("*.safetensors"))


def test_the_card_has_the_report_on_the_judge(cai, run, tmp_path):
    accuracy = {"accuracy": {"value": 0.8, "n": 50}}
    judged = {"judges": {"reference, critique": accuracy, "other": accuracy}, "baselines": {}}
    write_json(tmp_path / "judge.json", judged)
    options = ("--to", tmp_path / "model", "--judge-report", tmp_path / "judge.json")
    cai("export", run, "--model", "sl_cai", *options)
    card = (tmp_path / "model/README.md").read_text()
    assert "## Judge: Agreement with people" in card
    assert "| reference, critique | 50 | 80% |" in card and "| other |" not in card
    write_json(tmp_path / "judge.json", judged | {"judges": {"other": accuracy}})
    options = ("--to", tmp_path / "other", "--judge-report", tmp_path / "judge.json")
    done = cai("export", run, "--model", "sl_cai", *options, code=1)
    assert "is not about the judge of the run, reference, but about other" in str(done.exception)
    (tmp_path / "notes.json").write_text(json.dumps({"judges": 3}))
    options = ("--to", tmp_path / "other", "--judge-report", tmp_path / "notes.json")
    done = cai("export", run, "--model", "sl_cai", *options, code=1)
    assert "is no report of cai judge-report" in str(done.exception)


@pytest.mark.parametrize("name", ["rl_cai", "reward", "initial", "sl_ca"])
def test_a_model_that_the_run_has_not_trained_is_named(cai, run, tmp_path, name):
    done = cai("export", run, "--model", name, "--to", tmp_path / "model", code=1)
    assert isinstance(done.exception, InputError) and "it has sl_cai" in str(done.exception)
    assert not (tmp_path / "model").exists()


def test_a_folder_with_something_in_it_is_left_alone(cai, run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    done = cai("export", run, "--model", "sl_cai", "--to", tmp_path / "mine", code=1)
    assert "is not empty" in str(done.exception)


def test_half_a_model_is_not_left(cai, run, tmp_path, monkeypatch):
    """Not by a full disk or a kill; the next export goes on from there, in an empty folder too."""
    out = tmp_path / "model"
    out.mkdir()
    with monkeypatch.context() as full_disk:
        full_disk.setattr("shutil.copytree", half_of)
        done = cai("export", run, "--model", "sl_cai", "--to", out, code=1)
        assert isinstance(done.exception, LimitReached) and "No space left" in str(done.exception)
    assert not any(out.iterdir()) and (tmp_path / "model.begun").is_dir()
    cai("export", run, "--model", "sl_cai", "--to", out)
    assert (out / "README.md").is_file() and not (tmp_path / "model.begun").exists()


def half_of(source, target, **_):
    target.mkdir(exist_ok=True)
    (target / "config.json").write_text("{")
    raise OSError(28, "No space left on device")


class Hub:
    """Stands in for the hub."""

    def __init__(self, sent, error=None):
        self.sent, self.error = sent, error

    def create_repo(self, name, *, repo_type, private, exist_ok):
        if self.error:
            raise self.error
        self.sent.append((name, repo_type, private, exist_ok))

    def upload_folder(self, *, repo_id, folder_path, repo_type):
        self.sent.append((repo_id, folder_path, repo_type))
        return "https://hub/place"


def test_nothing_is_sent_unless_it_is_asked_for(cai, run, tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: Hub(sent))
    shown = cai("export", run, "--force", "--push", "me/labels").stdout
    assert "nothing was sent" in shown and "dataset me/labels: --yes" in shown
    assert "preferences.jsonl" in shown and sent == []
    out = tmp_path / "model"
    cai("export", run, "--model", "sl_cai", "--to", out, "--push", "me/model", "--yes")
    assert sent == [("me/model", "model", True, True), ("me/model", str(out), "model")]


def test_a_hub_that_refuses_is_one_line(cai, run, monkeypatch):
    refusing = Hub([], OSError("no token\nmore lines"))
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: refusing)
    done = cai("export", run, "--force", "--push", "me/labels", "--yes", code=1)
    assert isinstance(done.exception, LimitReached)
    assert str(done.exception) == "me/labels: no token"
