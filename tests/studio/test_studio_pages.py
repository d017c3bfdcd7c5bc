"""The pages: what they show, and that a hostile record is text on every one of them."""

import hashlib
import html.parser
import json
import re
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient
from studio_runs import (
    LABELS,
    MADE_BY,
    append,
    judgment,
    label,
    make_run,
    prompt,
    revision,
    sample,
    step,
    touch_owner,
    write_log,
)

from cai.files import write_json, write_records
from cai.records import Revision
from cai.studio.app import STATIC, build_app
from cai.studio.library import Library
from cai.studio.texts import MAX_SHOWN, differences, pieces, visible

TOKEN = "t" * 43


class Studio:
    """A browser that has been let in."""

    def __init__(self, *folders):
        self.library = Library(folders)
        self.client = TestClient(build_app(self.library, TOKEN, "1"), base_url="http://127.0.0.1:1")
        self.client.cookies.set("cai_studio_1", TOKEN)
        self.refresh()

    def refresh(self):
        for run in self.library.runs.values():
            run.refresh()

    def get(self, path, code=200, **query):
        answer = self.client.get(path + (f"?{urlencode(query)}" if query else ""))
        assert answer.status_code == code, answer.text
        return answer.text


@pytest.fixture
def folder(tmp_path):
    return make_run(tmp_path / "a")


@pytest.fixture
def studio(folder):
    return Studio(folder)


def words(page):
    """The text of a page without its marks."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


# -- what the pages show ---------------------------------------------------------------------------


def test_the_overview_shows_stages_and_what_failed(studio):
    page = studio.get("/run/a/")
    assert 'href="/run/a/judge"' in page
    assert 'href="/run/a/judge?status=unscored"' in page
    assert "1 unscored" in words(page)
    assert "interrupted" in page  # records without a manifest, and no process at work


def test_one_run_opens_at_once_and_several_are_listed(folder, tmp_path):
    assert Studio(folder).client.get("/", follow_redirects=False).headers["location"] == "/run/a/"
    other = make_run(tmp_path / "b/a")
    page = Studio(folder, other).get("/")
    assert 'href="/run/a/"' in page
    assert 'href="/run/a~2/"' in page


def test_the_list_shows_filters_with_counts(studio):
    page = studio.get("/run/a/judge")
    assert "5 records" in page
    assert '<option value="reference/threat">reference/threat (1)</option>' in page
    assert "near tie (2)" in words(page)
    page = studio.get("/run/a/judge", mark="order_flip")
    assert "1 record" in page
    assert "Prompt 3" in page


def test_a_search_counts_the_records_of_every_stage(studio):
    page = words(studio.get("/run/a/judge", q="clown"))
    assert "sample 1 revise 1" in page
    assert "0 records" in page


def test_pages_of_a_list(tmp_path):
    studio = Studio(make_run(tmp_path / "a", [label(n, 0.9) for n in range(120)]))
    page = studio.get("/run/a/judge", page=2)
    assert "page 2 of 3" in page
    assert page.count("<li>") == 50
    for odd in ("0", "-1", "99999999999999999999", "x", "٣"):
        studio.get("/run/a/judge", page=odd)
    assert "page 3 of 3" in studio.get("/run/a/judge", page=999)


def test_a_chain_shows_each_round_with_its_principle_and_differences(studio):
    page = studio.get("/run/a/revise/record", id="r0")
    assert (
        "You <del>clown</del><ins>are kind</ins>, you old <del>fool</del><ins>friend</ins>." in page
    )
    assert "It is an insult." in page
    principle = studio.library.runs["a"].constitution.principles["reference/insult"]
    assert principle.title in page
    assert principle.critique in words(page)
    assert "edited since" in page  # the record was made by other texts


def test_a_label_shows_all_evidence(tmp_path):
    votes = judgment(
        0.5,
        method="sampled_votes",
        evidence={"sampled_votes": 8.0, "share_order_1": 0.75, "share_order_2": 0.25},
        text="A, because it is kind.",
        seeds=(4, 5),
        temperature=0.9,
        tokens=(1200, 34),
        fallback="8 of 8 votes",
        reason="one answer was cut off",
    )
    studio = Studio(
        make_run(
            tmp_path / "a",
            [
                label(
                    0,
                    0.55,
                    votes,
                    judgment(
                        0.6,
                        evidence={"p_A_order_1": 0.9, "p_A_order_2": 0.7},
                        option_mass=(0.97, 0.42),
                    ),
                )
            ],
        )
    )
    page = words(studio.get("/run/a/judge/record", id="l0"))
    for shown in (
        "order flip",
        "near tie",
        "8 of 8 votes",
        "one answer was cut off",
        "4, 5",
        "0.9",
        "1,200 read, 34 written",
        "A, because it is kind.",
        "0.42",
        "0.750 in this order, 0.250 with the answers swapped",
        "0.900 in this order, 0.300 with the answers swapped",
    ):
        assert shown in page, shown


def test_a_failed_record_shows_its_reason(studio):
    assert "the server is down (503)" in studio.get("/run/a/sample/record", id="s1")
    assert "no verdict in" in studio.get("/run/a/judge/record", id="l2")


@pytest.mark.parametrize("stage", ["prompts", "sample", "revise", "compare", "judge"])
def test_every_link_of_a_list_opens(stage, studio):
    links = re.findall(r'<li><a href="([^"]+)"', studio.get(f"/run/a/{stage}"))
    assert links
    for link in links:
        page = studio.get(link.replace("&amp;", "&"))
        for copy in re.findall(r'data-copy="([^"]+)"', page):
            assert json.loads(studio.get(copy.replace("&amp;", "&")))["id"]


def test_neighbours_keep_the_filters(studio):
    page = studio.get("/run/a/judge/record", id="l1", mark="near_tie")
    assert re.search(r'rel="next" href="[^"]*id=l3[^"]*mark=near_tie', page)
    assert 'rel="prev"' not in page


def test_the_json_of_a_record_is_the_record(studio):
    assert json.loads(studio.get("/run/a/judge/record.json", id="l3")) == LABELS[3].model_dump(
        mode="json"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/run/b/",
        "/run/a/nope",
        "/run/a/sft",
        "/run/a/judge/record?id=nope",
        "/run/a/judge/record",
        "/run/a/judge/text?id=l0&part=nope",
        "/run/a/plot/nope.svg",
        "/run/a/plot/rates.svg",
        "/static/nope",
        "/nope",
    ],
)
def test_what_does_not_exist_is_a_page_that_says_so(path, studio):
    assert "<!doctype html>" in studio.get(path, 404)


def test_only_get_reads_and_nothing_writes(studio):
    for path in ("/run/a/", "/run/a/judge", "/run/a/judge/record?id=l0"):
        answer = studio.client.post(path, headers={"origin": "http://127.0.0.1:1"})
        assert answer.status_code == 405


def test_figures_of_the_report(studio, folder):
    rate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 80}
    flags = {"flags": {"harmful": {"eval_red_team": rate}}}
    policies = {"initial": flags, "sl_cai": flags}
    write_json(folder / "metrics.json", {"policies": policies, "seconds": {"judge": 1}})
    page = studio.get("/run/a/")
    assert "/run/a/plot/rates.svg" in page
    answer = studio.client.get("/run/a/plot/rates.svg")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert "script" not in answer.text


# -- live ------------------------------------------------------------------------------------------


def test_a_run_is_followed_while_it_goes_on(studio, folder):
    assert "hx-trigger" not in studio.get("/run/a/progress")
    touch_owner(folder)
    page = studio.get("/run/a/progress")
    assert 'hx-trigger="every 2s"' in page
    assert "in progress" in page
    append(folder / "judge/records.jsonl", label(9))
    studio.refresh()
    assert "6 records" in studio.get("/run/a/judge")


def test_the_plot_of_a_training_follows_its_log(tmp_path):
    studio = Studio(make_run(tmp_path / "a", models={"initial": "reference"}))
    folder = tmp_path / "a"
    rows = [{"update": n, "num_updates": 4, "score": n / 10, "kl": n / 5} for n in (1, 2)]
    write_log(folder / "ppo", *rows, {"update": 3, "kl": "x"})
    page = studio.get("/run/a/progress")
    before = re.search(r"/run/a/plot/ppo.svg\?v=[\d-]+", page)[0]
    assert "<svg" in studio.get(before)
    touch_owner(folder)
    write_log(folder / "ppo", *rows, {"update": 3, "num_updates": 4, "score": 0.3, "kl": 0.7})
    page = studio.get("/run/a/progress")
    assert "3 of 4" in words(page)
    assert "kl 0.7" in words(page)
    assert re.search(r"/run/a/plot/ppo.svg\?v=[\d-]+", page)[0] != before


def test_another_process_with_the_number_of_a_killed_one_is_not_asked(studio, folder):
    (folder / ".owner").write_text("process 1 on another-machine")
    assert "hx-trigger" not in studio.get("/run/a/progress")
    (folder / ".owner").write_bytes(b"\xff")
    assert "hx-trigger" not in studio.get("/run/a/progress")


def test_a_stage_done_again_shows_its_new_records(studio, folder):
    write_records(folder / "judge/records.jsonl", [label(50, 0.7)])
    gone = studio.get("/run/a/judge/record", 503, id="l1")
    assert "replaced" in gone or "being built" in gone
    studio.refresh()
    assert "1 record" in studio.get("/run/a/judge")
    assert "done again" in studio.get("/run/a/judge/record", 404, id="l1")


def test_while_the_index_is_built_a_page_waits(studio):
    index = studio.library.runs["a"].stages()["judge"]
    index.discard()
    assert 'http-equiv="refresh"' in studio.get("/run/a/judge", 503)
    index.refresh(max_lines=2)
    assert "of the file that are indexed" in studio.get("/run/a/judge")


def test_a_damaged_index_mends_itself(studio):
    index = studio.library.runs["a"].stages()["judge"]
    index.discard()
    index.path.write_bytes(b"no database, whatever it was before" * 99)
    studio.get("/run/a/judge", 503)
    studio.refresh()
    assert "5 records" in studio.get("/run/a/judge")


@pytest.mark.parametrize("content", ["", "{}", "constitution: [", "\0", "constitution: 7"])
def test_a_damaged_run_file_is_a_page_that_says_so(content, studio, folder):
    (folder / "config.yaml").write_text(content)
    assert "config.yaml" in studio.get("/run/a/judge", 500)


# -- hostile texts ---------------------------------------------------------------------------------

ATTACKS = [
    "<script>alert(1)</script>",
    "</textarea></div></main></body><h1>Owned</h1>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<svg/onload=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<iframe srcdoc='<b>x'></iframe>",
    "<div hx-get='/run/a/' hx-trigger='load'>",
    "<!-- ", "]]>", "{{ 7 * 7 }} {% include 'layout.html.jinja' %}", "${7*7} #{7*7}",
    "<style>body{display:none}</style>", "<base href=http://evil.example>",
    "&lt;b&gt; &amp;amp; &#60;script&#62;",
    "javascript:alert(1)", "data:text/html,<script>alert(1)</script>", "../../../../etc/passwd", "..%2f..%2f", "\\\\evil\\share",
]  # fmt: skip


class Elements(html.parser.HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        # which of the options is selected depends on their order
        names = tuple(name for name, _ in attrs if name != "selected")
        self.found.append((tag, names))


def hostile_run(folder, text):
    """A run whose every text, id and name is hostile."""
    bad = judgment(
        0.5,
        principle=text,
        method=text,
        text=text,
        reason=text,
        fallback=text,
        evidence={text: 1.0},
    )
    labels = [
        label(
            0,
            0.5,
            bad,
            first=text,
            second=text + "!",
            source=text,
            judge=text,
            reason=text,
            id=text,
        )
    ]
    steps = (
        step(text, text, principle=text, written=text, reasoning=(text, text), removed=(text,)),
        step(text, "x", status="invalid", reason=text),
    )
    drafts = sample(
        text,
        id=text,
        reasoning=text,
        reason=text,
        prompt=prompt(text + "?", text),
        provenance=MADE_BY.model_copy(update={"model": text}),
    )
    make_run(folder, labels, [Revision(id=text, sample=drafts, steps=steps)])
    write_records(folder / "sample/records.jsonl", [drafts])
    write_records(folder / "prompts/records.jsonl", [drafts.prompt.model_copy(update={"id": text})])
    return folder


def pages_of(studio, text):
    yield studio.get("/run/a/")
    for stage in ("prompts", "sample", "revise", "compare", "judge"):
        page = studio.get(f"/run/a/{stage}")
        yield page
        yield studio.get(
            f"/run/a/{stage}", q=text, source=text, principle=text, set=text, status=text
        )
        for link in re.findall(r'<li><a href="([^"]+)"', page):
            yield studio.get(html.unescape(link))


def shape(pages):
    """The elements of pages, without those that stand for hidden characters."""
    return [
        [found for found in Elements(page).found if found[1] != ("class", "title")]
        for page in pages
    ]


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    folder = hostile_run(tmp_path_factory.mktemp("harmless") / "a", "a harmless text")
    return shape(pages_of(Studio(folder), "a harmless text"))


@pytest.mark.parametrize("text", ATTACKS)
def test_markup_in_records_changes_no_page(text, tmp_path, harmless):
    """Every page has the same elements and attributes as with harmless texts."""
    pages = list(pages_of(Studio(hostile_run(tmp_path / "a", text)), text))
    assert shape(pages) == harmless
    assert all("alert(1)>" not in page for page in pages)


def test_no_page_has_inline_scripts_or_styles(studio):
    for page in pages_of(studio, "x"):
        for tag, attributes in Elements(page).found:
            assert tag != "style"
            assert tag != "script" or "src" in attributes
            assert not [name for name in attributes if name.startswith("on") or name == "style"]


HIDDEN = {
    "\x1b[2J\x1b[31mred": "U+001B ESCAPE",
    "a\x00b": "U+0000 NULL",
    "\x08\x08\x08": "U+0008 BACKSPACE",
    "safe\rgone": "U+000D CARRIAGE RETURN",
    "\u202egpj.exe": "U+202E RIGHT-TO-LEFT OVERRIDE",
    "\u2066x\u2069": "U+2066 LEFT-TO-RIGHT ISOLATE",
    "\u200bzero": "U+200B ZERO WIDTH SPACE",
    "\U000e0041\U000e0042": "U+E0041 TAG LATIN CAPITAL LETTER A",
    "\u2028line": "U+2028 LINE SEPARATOR",
    "\x9b31m": "U+009B CONTROL CHARACTER",
    "\ufeffmark": "U+FEFF ZERO WIDTH NO-BREAK SPACE",
}


@pytest.mark.parametrize("text", HIDDEN)
def test_hidden_characters_are_made_visible(text, tmp_path):
    studio = Studio(hostile_run(tmp_path / "a", text))
    hidden = {c for c in text if not c.isprintable()}
    for page in pages_of(studio, text):
        assert not hidden & set(words(page))  # the value of a filter is not shown, and stays
    page = studio.get("/run/a/sample")
    assert HIDDEN[text] in page


def test_ordinary_texts_are_left_as_they_are():
    for text in ("line\nline\ttab", "a\r\nb", "👩‍👩‍👧 नमस्ते", "שלום عالم", "é ﬁ 中文"):
        assert visible(text) == text.replace("\r\n", "\n")
        assert all(not piece.hidden for piece in pieces(text))


def test_ten_megabytes_are_capped_and_one_click_away(tmp_path):
    text = "word " * 2_000_000
    studio = Studio(make_run(tmp_path / "a", revisions=[revision(draft=text, final=text + "end")]))
    page = studio.get("/run/a/revise/record", id="r0")
    assert len(page) < 10 * MAX_SHOWN
    link = re.search(r'<a href="([^"]+part=sample.response[^"]*)">Show all', page)
    whole = studio.client.get(html.unescape(link[1]))
    assert whole.text == text
    assert whole.headers["content-type"].startswith("text/plain")
    assert len(studio.get("/run/a/revise")) < 50_000


@pytest.mark.parametrize("name", ["..", "../..", "a/b", "-", " ", "<b>", "é", "a?b#c", "%2e%2e"])
def test_a_folder_name_becomes_a_plain_address(name, tmp_path):
    key = Library(
        [
            make_run(
                tmp_path / "x" / name.replace("/", "_").strip(".")
                if name.strip(".")
                else tmp_path / "x/y"
            )
        ]
    )
    assert all(re.fullmatch(r"[\w.~-]+", key) for key in key.runs)


@pytest.mark.parametrize(
    "path",
    [
        "/run/a/..%2f..%2fetc",
        "/run/a/judge%2f..%2frecord?id=l0",
        "/static/..%2f..%2fsecurity.py",
        "/static/%2fetc%2fpasswd",
        "/run/..%2f/",
        "/run/a/plot/..%2f..%2fx.svg",
        "/run/a/judge%00",
        "/run/a/.studio",
        "/run/a/config.yaml",
    ],
)
def test_addresses_are_no_paths(path, studio):
    assert "cai studio" in studio.get(path, 404)


# -- differences and static files --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("", "a"),
        ("a b c", "a c"),
        ("a a a a", "a a"),
        ("same", "same"),
        ("中文字", "中国字"),
        ("x" * 5000, "y" * 5000),
        ("word " * 3000, "other word " * 3000),
        ("\n\n", "\n"),
        ("a,b", "a, b"),
    ],
)
def test_the_parts_of_a_difference_make_both_texts(before, after):
    parts = differences(before, after)
    assert "".join(p.text for p in parts if p.kind != "added") == before
    assert "".join(p.text for p in parts if p.kind != "removed") == after


def test_htmx_is_the_file_that_its_name_says():
    path = STATIC["htmx.js"]
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.name.split(".")[-3])
    assert (path.parent / "htmx.LICENSE").is_file()


def test_the_own_script_is_short_and_calls_nobody():
    script = STATIC["studio.js"].read_text()
    assert script.count("\n") <= 200
    assert "http" not in script.replace("http-equiv", "")
    assert not re.search(r"innerHTML|eval\(|document\.write", script)
