"""The studio in a real browser, by keys alone. Without Chromium these tests are skipped, visibly."""

import json

import pytest
from browser import CHROMIUM, opened, serve
from studio_runs import append, label, make_run, touch_owner

from cai.data.preferences import read_preferences
from cai.files import write_records

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("browser") / "a")


@pytest.fixture(scope="module")
def address(folder):
    with serve(folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser(address, tmp_path_factory):
    with opened(address, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def path_is(browser, path):
    browser.wait(f"document.readyState == 'complete' && location.pathname == {path!r}")


def test_the_token_leaves_the_address(browser):
    path_is(browser, "/run/a/")
    assert browser.ask("location.search") == ""
    assert browser.ask("document.cookie") == ""  # no script can read it


def test_read_by_keys_alone(browser, address):
    browser.open(address.partition("?")[0] + "run/a/judge")
    browser.wait("document.querySelectorAll('.list a').length == 5")
    browser.press("j", "j", "k", "j")
    assert "Prompt 1" in browser.ask("document.activeElement.textContent")
    browser.press("Enter")
    path_is(browser, "/run/a/judge/record")
    assert "id=l1" in browser.ask("location.search")
    browser.press("j")
    browser.wait("location.search.includes('id=l2') && document.readyState == 'complete'")
    browser.press("u")
    path_is(browser, "/run/a/judge")
    browser.press("3")
    path_is(browser, "/run/a/revise")


def test_search_as_one_types(browser, address):
    browser.open(address.partition("?")[0] + "run/a/judge")
    browser.press("/")
    browser.wait("document.activeElement.id == 'q'")
    browser.press(*"maybe")
    browser.wait("document.querySelectorAll('.list a').length == 1")
    browser.wait("location.search == '?q=maybe'")  # a permalink without empty filters
    assert "1 record" in browser.ask("document.querySelector('[role=status]').textContent")
    browser.press("Escape")
    assert browser.ask("document.querySelector('#q').value") == "maybe"
    browser.press("j", "Enter")
    path_is(browser, "/run/a/judge/record")
    assert "no verdict in" in browser.ask("document.body.textContent")


def test_the_keys_are_listed(browser, address):
    browser.open(address.partition("?")[0] + "run/a/judge")
    browser.press("?")
    browser.wait("document.querySelector('#keys').open")
    browser.press("Escape")
    browser.wait("!document.querySelector('#keys').open")


def test_a_run_that_goes_on_is_followed(browser, address, folder):
    touch_owner(folder)
    browser.open(address.partition("?")[0] + "run/a/")
    row = "[...document.querySelectorAll('.stages tr')].find(r => r.textContent.includes('judge'))"
    browser.wait(f"{row}.textContent.includes('in progress')")
    append(folder / "judge/records.jsonl", label(9))
    browser.wait(f"{row}.querySelector('.figure').textContent.trim().startsWith('6')")


def test_thirty_pairs_are_labeled_by_keys_alone(browser, address, folder):
    write_records(
        folder / "judge/records.jsonl", [label(n, 0.9 if n % 3 else 0.2) for n in range(40)]
    )
    page = address.partition("?")[0] + "run/a/judge"
    browser.open(page)
    browser.wait("document.body.textContent.includes('40 records') || location.reload()")
    browser.open(f"{page}/label?rater=ann")
    for number in range(30):
        browser.wait(
            f"document.body.textContent.includes('ann: {number} label') && document.readyState == 'complete'"
        )
        if number == 7:
            browser.press("n")
            browser.wait("document.activeElement.id == 'note'")
            browser.press(*"hm1", "Enter")  # neither the digit nor Enter chooses an answer
        browser.press("2" if number % 4 == 1 else "0" if number % 10 == 9 else "1")
    browser.wait("document.body.textContent.includes('ann: 30 labels')")
    browser.press("u")
    browser.wait("document.body.textContent.includes('ann: 29 labels')")
    browser.press("1")
    browser.wait("document.body.textContent.includes('ann: 30 labels')")
    rows = [json.loads(line) for line in (folder / "human_labels.jsonl").read_text().splitlines()]
    assert len({row["pair"] for row in rows}) == len(rows) == 30
    assert [row["note"] for row in rows if row["note"]] == ["hm1"]
    assert sum(row["p_chosen"] == 0.5 for row in rows) == 1
    assert len(read_preferences(folder / "human_labels.jsonl").preferences) == 30


def test_nothing_is_wider_than_a_phone(browser, address):
    browser.show(390)
    base = address.partition("?")[0]
    for path in (
        "run/a/",
        "run/a/judge",
        "run/a/judge/record?id=l3",
        "run/a/revise/record?id=r0",
        "run/a/judge/label?rater=bo",
    ):
        browser.open(base + path)
        assert browser.ask("document.documentElement.scrollWidth") <= 390, path
    browser("Emulation.clearDeviceMetricsOverride")
