"""The pages that explain a run in a real browser, by clicks and keys."""

import pytest
from browser import CHROMIUM, opened, serve
from finished_runs import POLICIES, answers, make_finished_run
from studio_runs import LABELS, revision, touch_owner, write_log

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


UPDATES = [{"update": n, "score": n / 4, "kl": n / 8} for n in range(1, 9)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("understand")
    one = make_finished_run(folder / "one", answers(POLICIES), [revision()], LABELS)
    write_log(one / "ppo", *UPDATES)
    (one / "ppo/answers.jsonl").write_text(
        "".join(f'{{"update": {n}, "prompt": "P", "answer": "Answer {n}."}}\n' for n in range(1, 9))
    )
    make_finished_run(folder / "other", answers(POLICIES | {"rl_cai": 3}))
    return one


@pytest.fixture(scope="module")
def address(folder):
    with serve(folder, folder.with_name("other")) as address:
        yield address


@pytest.fixture(scope="module")
def browser(address, tmp_path_factory):
    with opened(address, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def path_is(browser, path):
    browser.wait(f"document.readyState == 'complete' && location.pathname == {path!r}")


def test_from_the_curve_to_the_answers_of_an_update(browser, address):
    browser.open(address.partition("?")[0] + "run/one/")
    browser.click("document.querySelector(`a[href='/run/one/understand']`)")
    path_is(browser, "/run/one/understand")
    browser.wait("document.querySelectorAll('.hover title').length > 3")
    browser.open(address.partition("?")[0] + "run/one/understand/training/ppo")
    browser.wait("document.body.textContent.includes('Answer 8.')")
    browser.click("document.querySelector(`a[href$='step=3'] path`)")
    browser.wait("location.search == '?step=3' && document.body.textContent.includes('Answer 3.')")
    browser.press("n")
    browser.wait("location.search == '?step=4' && document.body.textContent.includes('Answer 4.')")
    browser.press("/")
    browser.wait("document.activeElement.id == 'q'")
    browser.ask("document.activeElement.select()")
    browser.press("7", "Enter")
    browser.wait("location.search == '?step=7' && document.body.textContent.includes('Answer 7.')")


def test_a_training_that_goes_on_is_followed(browser, address, folder):
    touch_owner(folder)
    browser.open(address.partition("?")[0] + "run/one/understand/training/ppo")
    browser.wait("document.querySelector('h2').textContent.includes('update 8')")
    write_log(folder / "ppo", *UPDATES, {"update": 9, "score": 3, "kl": 1})
    browser.wait("document.querySelector('h2').textContent.includes('update 9')")


def test_principles_answers_and_runs_by_keys(browser, address):
    browser.open(address.partition("?")[0] + "run/one/understand")
    browser.press("2")
    path_is(browser, "/run/one/understand/principles")
    browser.click("document.querySelector(`tbody th a`)")
    path_is(browser, "/run/one/understand/principle")
    first = browser.ask("document.querySelector('h1').textContent")
    browser.press("n")
    browser.wait(f"document.querySelector('h1').textContent != {first!r}")
    browser.press("u")
    path_is(browser, "/run/one/understand/principles")
    browser.press("3")
    path_is(browser, "/run/one/understand/answers")
    browser.wait("document.querySelectorAll('.columns').length == 4")
    assert browser.ask("document.querySelectorAll('ins').length") > 0


def test_nothing_is_wider_than_a_phone(browser, address):
    browser.show(390)
    base = address.partition("?")[0] + "run/one/understand"
    paths = ("", "/principles", "/principle?id=reference/insult", "/answers", "/training/ppo")
    for path in (*paths, "/compare"):
        browser.open(base + path)
        assert browser.ask("document.documentElement.scrollWidth") <= 390, path
    browser("Emulation.clearDeviceMetricsOverride")
