"""The pages that explain a run in a real browser, by clicks and keys."""

import pytest
from browser import CHROMIUM, assert_fits_a_phone, opened, serve
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
def browser(folder, tmp_path_factory):
    profile = tmp_path_factory.mktemp("profile")
    with (
        serve(folder, folder.with_name("other")) as address,
        opened(address, profile) as browser,
    ):
        yield browser


def test_from_the_curve_to_the_answers_of_an_update(browser):
    browser.open("/run/one/")
    browser.click("a[href='/run/one/understand']")
    browser.wait_for_path("/run/one/understand")
    browser.wait("document.querySelectorAll('.hover title').length > 3")
    browser.open("/run/one/understand/training/ppo")
    browser.wait_for_text("Answer 8.")
    browser.click("a[href$='step=3'] path")
    browser.wait("location.search == '?step=3' && document.body.textContent.includes('Answer 3.')")
    browser.press("n")
    browser.wait("location.search == '?step=4' && document.body.textContent.includes('Answer 4.')")
    browser.press("/")
    browser.wait("document.activeElement.id == 'q'")
    browser.ask("document.activeElement.select()")
    browser.press("7", "Enter")
    browser.wait("location.search == '?step=7' && document.body.textContent.includes('Answer 7.')")


def test_a_training_that_goes_on_is_followed(browser, folder):
    touch_owner(folder)
    browser.open("/run/one/understand/training/ppo")
    browser.wait("document.querySelector('h2').textContent.includes('update 8')")
    write_log(folder / "ppo", *UPDATES, {"update": 9, "score": 3, "kl": 1})
    browser.wait("document.querySelector('h2').textContent.includes('update 9')")


def test_principles_answers_and_runs_by_keys(browser):
    browser.open("/run/one/understand")
    browser.press("2")
    browser.wait_for_path("/run/one/understand/principles")
    browser.click("tbody th a")
    browser.wait_for_path("/run/one/understand/principle")
    first = browser.ask("document.querySelector('h1').textContent")
    browser.press("n")
    browser.wait(f"document.querySelector('h1').textContent != {first!r}")
    browser.press("u")
    browser.wait_for_path("/run/one/understand/principles")
    browser.press("3")
    browser.wait_for_path("/run/one/understand/answers")
    browser.wait("document.querySelectorAll('.columns').length == 4")
    assert browser.ask("document.querySelectorAll('ins').length") > 0


def test_nothing_is_wider_than_a_phone(browser):
    paths = ("", "/principles", "/principle?id=reference/insult", "/answers", "/training/ppo")
    pages = [f"/run/one/understand{path}" for path in (*paths, "/compare")]
    assert_fits_a_phone(browser, *pages)
