"""The studio in a real browser, by keys alone. Without Chromium these tests are skipped, visibly."""

import json

import pytest
from browser import CHROMIUM, assert_fits_a_phone, opened, serve
from studio_runs import append, label, make_run, touch_owner

from cai.data.preferences import read_preferences
from cai.files import write_records

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("browser") / "a")


@pytest.fixture(scope="module")
def browser(folder, tmp_path_factory):
    with serve(folder) as address, opened(address, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def test_the_token_leaves_the_address(browser):
    browser.wait_for_path("/run/a/")
    assert browser.ask("location.search") == ""
    assert browser.ask("document.cookie") == ""  # no script can read it


def test_read_by_keys_alone(browser):
    browser.open("/run/a/judge")
    browser.wait("document.querySelectorAll('.list a').length == 5")
    browser.press("j", "j", "k", "j")
    assert "Prompt 1" in browser.ask("document.activeElement.textContent")
    browser.press("Enter")
    browser.wait_for_path("/run/a/judge/record")
    assert "id=l1" in browser.ask("location.search")
    browser.press("j")
    browser.wait("location.search.includes('id=l2')")
    browser.press("u")
    browser.wait_for_path("/run/a/judge")
    browser.press("3")
    browser.wait_for_path("/run/a/revise")


def test_search_as_one_types(browser):
    browser.open("/run/a/judge")
    browser.press("/")
    browser.wait("document.activeElement.id == 'q'")
    browser.press(*"maybe")
    browser.wait("document.querySelectorAll('.list a').length == 1")
    browser.wait("location.search == '?q=maybe'")  # a permalink without empty filters
    assert "1 record" in browser.ask("document.querySelector('[role=status]').textContent")
    browser.press("Escape")
    assert browser.ask("document.querySelector('#q').value") == "maybe"
    browser.press("j", "Enter")
    browser.wait_for_path("/run/a/judge/record")
    assert "no verdict in" in browser.ask("document.body.textContent")


def test_the_keys_are_listed(browser):
    browser.open("/run/a/judge")
    browser.press("?")
    browser.wait("document.querySelector('#keys').open")
    browser.press("Escape")
    browser.wait("!document.querySelector('#keys').open")


def test_a_run_that_goes_on_is_followed(browser, folder):
    touch_owner(folder)
    browser.open("/run/a/")
    row = "[...document.querySelectorAll('.stages tr')].find(r => r.textContent.includes('judge'))"
    browser.wait(f"{row}.textContent.includes('in progress')")
    append(folder / "judge/records.jsonl", label(9))
    browser.wait(f"{row}.querySelector('.figure').textContent.trim().startsWith('6')")


def test_thirty_pairs_are_labeled_by_keys_alone(browser, folder):
    write_records(
        folder / "judge/records.jsonl", [label(n, 0.9 if n % 3 else 0.2) for n in range(40)]
    )
    page = "/run/a/judge"
    browser.open(page)
    browser.wait("document.body.textContent.includes('40 records') || location.reload()")
    browser.open(f"{page}/label?rater=ann")
    for number in range(30):
        browser.wait_for_text(f"ann: {number} label")
        if number == 7:
            browser.press("n")
            browser.wait("document.activeElement.id == 'note'")
            browser.press(*"hm1", "Enter")  # neither the digit nor Enter chooses an answer
        browser.press("2" if number % 4 == 1 else "0" if number % 10 == 9 else "1")
    browser.wait_for_text("ann: 30 labels")
    browser.press("u")
    browser.wait_for_text("ann: 29 labels")
    browser.press("1")
    browser.wait_for_text("ann: 30 labels")
    rows = [json.loads(line) for line in (folder / "human_labels.jsonl").read_text().splitlines()]
    assert len({row["pair"] for row in rows}) == len(rows) == 30
    assert [row["note"] for row in rows if row["note"]] == ["hm1"]
    assert sum(row["p_chosen"] == 0.5 for row in rows) == 1
    assert len(read_preferences(folder / "human_labels.jsonl").preferences) == 30


def test_nothing_is_wider_than_a_phone(browser):
    pages = ("judge", "judge/record?id=l3", "revise/record?id=r0", "judge/label?rater=bo")
    assert_fits_a_phone(browser, "/run/a/", *(f"/run/a/{page}" for page in pages))
