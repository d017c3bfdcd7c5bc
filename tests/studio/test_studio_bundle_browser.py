"""A bundle in a real browser, from disk: no server, no script."""

import pytest
from browser import CHROMIUM, READY, Browser
from studio_runs import LABELS, label, make_run

from cai.studio.bundle import write_bundle

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a folder, with spaces #1")
    labels = [*LABELS, *(label(n, 0.9) for n in range(10, 260))]
    write_bundle(make_run(folder / "a", labels), folder / "b")
    return folder / "b"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    errors = [str(error) for error in browser.errors]
    browser.close()
    assert errors == []  # the content policy let everything in that the pages need


def click(browser, text):
    """Click with the mouse on the first link with a text, and wait for its page."""
    link = f"[...document.links].find(a => a.textContent.includes({text!r}))"
    target = browser.ask(f"{link}.href")
    browser.click(link)
    browser.wait(f"location.href == {target!r} && document.readyState == 'complete'")


def text_of(browser):
    return browser.ask("document.body.innerText")


def test_from_the_first_page_to_a_record_the_next_page_and_a_list(bundle, browser):
    browser.open((bundle / "index.html").as_uri())
    assert browser.ask("getComputedStyle(document.querySelector('.bar')).display") == "flex"
    click(browser, "judge")
    assert "255 records" in text_of(browser)
    click(browser, "next →")
    assert "page 2 of 2" in text_of(browser)
    click(browser, "Prompt 259")
    assert browser.ask("document.querySelector(':target').innerText.includes('Prompt 259')")
    click(browser, "cai studio")
    click(browser, "1 unscored")
    assert browser.ask("document.querySelectorAll('.list li').length") == 1
    click(browser, "Prompt 2")
    assert "no verdict in" in browser.ask("document.querySelector(':target').innerText")
    click(browser, "sample")
    click(browser, "failed")
    assert "status: failed" in text_of(browser)


def test_keys_open_a_record_and_its_evidence(bundle, browser):
    browser.open((bundle / "judge/order_flip-1.html").as_uri())
    browser.ask("document.querySelector('.list a').focus()")
    browser.press("Enter")
    browser.wait("document.querySelector(':target')?.innerText.includes('Prompt 3')")
    browser.wait(READY)  # a page that is still loading takes the focus back
    browser.ask("document.querySelector(':target summary').focus()")
    browser.press("Enter")
    browser.wait("document.querySelector(':target details').open")
    assert "option logprobs" in browser.ask("document.querySelector(':target').innerText")


def test_nothing_is_wider_than_a_phone(bundle, browser):
    browser(
        "Emulation.setDeviceMetricsOverride",
        width=390,
        height=800,
        deviceScaleFactor=1,
        mobile=True,
    )
    for name in ("index.html", "judge/all-1.html", "judge/records-1.html", "revise/records-1.html"):
        browser.open((bundle / name).as_uri())
        assert browser.ask("document.documentElement.scrollWidth") <= 390, name
    browser("Emulation.clearDeviceMetricsOverride")
