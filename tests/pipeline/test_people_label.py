"""A person labels pairs of a run by keys alone; the reward model of the run trains on the labels."""

import json

import pytest
from browser import CHROMIUM, opened, serve
from commands import run

from cai.data.preferences import read_preferences
from cai.evaluate.agreement import agreement, matched
from cai.files import read_records
from cai.records import Preference

PAIRS = 30
MORE_PAIRS = ("compare.samples=5", "compare.pairs_per_prompt=4")


def label_by_keys(browser, page):
    """Label the pairs, and return what the page says of the agreement at the end."""
    browser.open(page)
    browser.ask("document.querySelector('#rater').focus()")
    browser.press(*"ann", "Enter")
    for number in range(PAIRS):
        browser.wait(f"document.querySelector('.head').textContent.includes('ann: {number} label')")
        browser.press("0" if number % 10 == 9 else "12"[number % 3 == 1])
    browser.wait(f"document.querySelector('.head').textContent.includes('ann: {PAIRS} labels')")
    return browser.ask("document.querySelector('.head').textContent")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_thirty_labels_by_keys_train_the_reward_model(judged_project, tmp_path):
    folder = judged_project / "runs/r"
    run(judged_project, *MORE_PAIRS, until="judge")
    with serve(folder) as address, opened(address, tmp_path / "profile") as browser:
        browser.open("/run/r/judge")
        browser.wait("document.querySelectorAll('.list a').length >= 30 || location.reload()")
        said = label_by_keys(browser, "/run/r/judge/label")
    labels = read_preferences(folder / "human_labels.jsonl")
    assert len(labels.preferences) == PAIRS
    expected = agreement(
        matched(read_records(folder / "judge/records.jsonl", Preference), labels.preferences)
    )
    assert expected["n"] == PAIRS - 3
    assert f"judge in {expected['accuracy']['value']:.0%} of {expected['n']} (" in said
    assert f"kappa {expected['kappa']['value']:.2f}" in said
    # as the how-to does it, with the file as it is
    human = 'reward.human=["../runs/r/human_labels.jsonl"]'
    trained = run(judged_project, *MORE_PAIRS, human, until="reward")["stages"]["reward"]
    assert trained["sources"]["human"] == PAIRS
    assert trained["skipped_human_rows"] == {}
    assert (folder / "reward/checkpoint/model.safetensors").is_file()


def test_answers_of_people_are_imitated_with_the_revisions(judged_project):
    before = run(judged_project, until="sft")["stages"]["sft"]
    rows = [
        {"prompt": "How do I wash the dog?", "completion": "With warm water."},
        {"prompt": "How do I wash the cat?", "completion": " "},
    ]
    path = judged_project / "examples/better.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = run(judged_project, 'sft.human=["better.jsonl"]', until="sft")["stages"]["sft"]
    assert again["rows"] == before["rows"] + 1
    assert again["skipped_human_rows"] == {"better.jsonl: an answer is empty": 1}
    assert "skipped_human_rows" not in before
