"""Which process writes files, and what the others do meanwhile."""

import pytest

from cai import distributed
from cai.files import write_records, write_text
from cai.records import Prompt


@pytest.fixture
def second_process(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")


def test_on_main_runs_in_the_main_process_only(tmp_path, monkeypatch):
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        distributed.on_main(write_text, tmp_path / rank, "x")
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


@pytest.mark.usefixtures("second_process")
def test_write_on_main_makes_the_items_everywhere(tmp_path):
    made = []

    def prompts():
        for text in ("Hello.", "How are you?"):
            made.append(text)
            yield Prompt.of(text)

    distributed.write_on_main(write_records, tmp_path / "prompts.jsonl", prompts())
    assert made == ["Hello.", "How are you?"]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("second_process")
def test_files_are_written_by_whoever_writes_them(tmp_path):
    write_text(tmp_path / "note.txt", "x")
    assert (tmp_path / "note.txt").read_text() == "x"


def test_share_covers_every_item_once(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares += distributed.share(range(7))
    assert sorted(shares) == list(range(7))
