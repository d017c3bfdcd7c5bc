"""What is found by trying a model is kept on disk, until something that it depends on changes."""

import json
import shutil

import pytest
import torch

from cai.models import trials
from cai.models.decoding_traits import decoding_traits
from cai.models.inspection import TRIALS
from cai.models.load import load_language_model
from cai.models.packing.layout import check_reads_rows, supports_tree_attention
from cai.models.packing.prefix import continues_prefixes


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch):
    """The folder of a model that counts as large."""
    monkeypatch.setattr(trials, "MIN_PARAMETERS", 0)
    monkeypatch.setenv("CAI_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tiny, tmp_path / "model")
    return tmp_path / "model"


def findings(folder, change=lambda model: None):
    """Open and try a model; return what was found, and whether the model was called for it."""
    model = load_language_model(str(folder)).model
    change(model)
    calls = []
    model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    return [check(model) for check in TRIALS.values()], bool(calls)


def test_a_model_is_tried_again_only_when_its_files_change(folder):
    found, was_tried = findings(folder)
    assert was_tried
    assert findings(folder) == (found, False)
    with (folder / "config.json").open("a", encoding="utf-8") as config:
        config.write("\n")
    assert findings(folder) == (found, True)
    assert findings(folder) == (found, False)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"decoding_traits": [1, 2, 3]}', b"\xff"])
def test_findings_that_cannot_be_read_are_absent(folder, tmp_path, content):
    found, _ = findings(folder)
    (file,) = (tmp_path / "cache" / "trials").iterdir()
    file.write_bytes(content)
    assert findings(folder) == (found, True)


def test_findings_about_other_weights_are_not_kept(folder, tmp_path):
    def train(model):
        with torch.no_grad():
            next(model.parameters()).mul_(2)

    assert findings(folder, train)[1]
    assert not (tmp_path / "cache").exists()


def test_without_a_place_to_write_a_model_is_tried_each_time(folder, tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder", encoding="utf-8")
    assert findings(folder)[1]
    assert findings(folder)[1]


@pytest.mark.parametrize(
    "trial", [decoding_traits, supports_tree_attention, continues_prefixes, check_reads_rows]
)
def test_a_lack_of_memory_is_no_finding(folder, tmp_path, trial):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = load_language_model(str(folder)).model
    if trial is continues_prefixes:
        supports_tree_attention(model)
    hook = model.base_model.register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        trial(model)
    hook.remove()
    assert trial(model) == trial(load_language_model(str(folder)).model)
    (file,) = (tmp_path / "cache" / "trials").iterdir()
    assert False not in json.loads(file.read_text()).values()
