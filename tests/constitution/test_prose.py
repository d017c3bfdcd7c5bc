"""Constitutions in Markdown as people publish them."""

import pytest
from typer.testing import CliRunner

from cai.cli.app import app
from cai.constitution import load_constitution
from cai.constitution.diff import changes
from cai.constitution.lint import check
from cai.constitution.lock import read_lock, write_lock
from cai.errors import InputError


def load(tmp_path, text, name="letter.md"):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return load_constitution(path)


def rules(constitution):
    return {name: principle.rule for name, principle in constitution.principles.items()}


def problems(tmp_path, text):
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    return [str(p).replace(f"{tmp_path / 'letter.md'}", "F") for p in caught.value.problems]


def test_front_matter_is_no_text_and_names_the_title(tmp_path):
    loaded = load(
        tmp_path,
        "\ufeff---\ntitle: Our rules\ndate: 2026-01-02\n---\n\n# T\r\n\r\n## A\r\nBe a.\r\n",
    )
    assert loaded.title == "Our rules" and rules(loaded) == {"a": "Be a."}
    assert rules(load(tmp_path, '+++\ntitle = "x"\n+++\n# T\n## A\nBe a.\n')) == {"a": "Be a."}
    assert rules(load(tmp_path, "---\n\n# T\n## A\nBe a.\n")) == {"a": "Be a."}


@pytest.mark.parametrize(
    ("heading", "name", "title"),
    [
        ("Do not lie {#lie authority=root}", "lie", "Do not lie"),
        ('Do not lie {: #lie .strict note="of all" }', "lie", "Do not lie"),
        ("Do not lie {authority=root}", "do-not-lie", "Do not lie"),
        ("Use {braces} well", "use-braces-well", "Use {braces} well"),
        ("**Be** [kind](x.md) to `code` ##", "be-kind-to-code", "Be kind to code"),
        ("snake_case and *stress*", "snake-case-and-stress", "snake_case and stress"),
        ("诚实待人", "诚实待人", "诚实待人"),
        ("Ehrlich währt's", "ehrlich-währt-s", "Ehrlich währt's"),
        ("كن صادقا", "كن-صادقا", "كن صادقا"),
        ("ईमानदार रहें", "ईमानदार-रहें", "ईमानदार रहें"),
        ("正直 {#正直}", "正直", "正直"),
        ("!!!", "section-01", "!!!"),
    ],
)
def test_headings_of_every_kind_have_an_id(tmp_path, heading, name, title):
    loaded = load(tmp_path, f"# T\n\n## {heading}\nText.\n")
    assert [(p.id, p.title) for p in loaded.principles.values()] == [(name, title)]


def test_headings_underlined_and_in_code(tmp_path):
    loaded = load(
        tmp_path,
        "Title\n=====\n\nBe\nkind\n----\nText.\n\n---\n\n```python\n# no heading\n```\n\n"
        "~~~~\n```\n## nor this\n~~~~\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- one\n  goes on\n- two\n---\n"
        "Last #5\n<!-- ## hidden\n## still\n--> kept `<!-- x -->`\n",
    )
    assert loaded.title == "Title"
    assert rules(loaded) == {
        "be-kind": "Text.\n\n```python\n# no heading\n```\n\n~~~~\n```\n## nor this\n~~~~\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n- one goes on\n- two\n\nLast #5 kept `<!-- x -->`"
    }


NESTED = """# Care {#care weight=3}
Care for people.
## Children
Protect them.
### At night {weight=1}
Be quiet.
## Adults {#adults}
Respect them.
# Truth
## Lies {.exclude}
Never lie.
## Sources
Name them, see [Adults](#adults), [?](#adults) and [this](https://example.org "x").
"""


def test_nested_sections_are_groups_with_weights_and_exclusions(tmp_path):
    loaded = load(tmp_path, NESTED)
    assert loaded.weights["judge"] == loaded.weights["revise"]
    assert loaded.weights["judge"] == {
        "care": 3.0,
        "care/children": 3.0,
        "care/children/at-night": 1.0,
        "adults": 3.0,
        "truth/sources": 1.0,
    }
    assert rules(loaded)["truth/sources"] == "Name them, see Adults, Adults and this."
    front = '---\njudge: {exclude: ["care/*"], weights: {truth/*: 2}}\nrevise: {principles: [adults]}\n---\n'
    loaded = load(tmp_path, front + NESTED)
    assert loaded.weights["judge"] == {"care": 3.0, "truth/sources": 2.0}
    assert loaded.weights["revise"] == {"adults": 3.0}


def test_items_of_a_list_without_sections_are_principles(tmp_path):
    loaded = load(
        tmp_path, "# Rules\n\n1. **Be kind.**\n   - always\n2. Be\n   brief.\n\n3. 要诚实。\n"
    )
    assert rules(loaded) == {
        "be-kind": "**Be kind.**\n   - always",
        "be-brief": "Be brief.",
        "要诚实": "要诚实。",
    }


EXAMPLES = """# T
## Honesty
Be honest.

**Example**: rain

~~~xml
<user>
Is it raining?
</user>
<comparison>
<assistant> <!-- BAD: it cannot know -->
Yes.
</assistant>
<assistant> <!-- GOOD -->
I cannot see the weather.
</assistant>
</comparison>
~~~

!!! meta "For people"
    # Not a heading

    Nor a rule.

!!! warning
    Be careful.

```example
prompt: How are you?
better: I am a program.
worse: I am happy.
```

::: example
prompt: Hi
better: Hello.
worse: Go away.
:::

~~~xml
<developer>x</developer><user>y</user><assistant>z</assistant>
~~~
"""


def test_marked_blocks_are_examples(tmp_path):
    principle = load(tmp_path, EXAMPLES).principles["honesty"]
    assert principle.rule == "Be honest.\n\nBe careful."
    assert [(e.prompt, e.better, e.worse) for e in principle.examples] == [
        ("Is it raining?", "I cannot see the weather.", "Yes."),
        ("How are you?", "I am a program.", "I am happy."),
        ("Hi", "Hello.", "Go away."),
    ]
    (note,) = check([tmp_path / "letter.md"]).notes
    assert note.message.startswith("1 conversation is not used") and note.message.endswith(
        "line 41"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("## A {weight=heavy}\nx\n", "F:1:1: weight must be a finite number"),
        ("## A {weight=-1}\nx\n", "F:1:1: weight must be a finite number"),
        ("---\njudge: {exclude: [b]}\n---\n## A\nx\n", "F:2:19: no principle is called 'b'"),
        ("---\njugde: {}\n---\n## A\nx\n", "F:2:1: unknown key 'jugde' (did you mean 'judge'?)"),
        ("---\ntitle: x\n", "F:1:1: the front matter has no end"),
        ("## A\nx\n```\ny\n", "F:3:1: this block of code has no end"),
        ("## A\nx\n<!-- y\n", "F:3:1: this comment has no end"),
        ("## A\nx\n::: note\ny\n", "F:3:1: this marked block has no end"),
        ("## A\nx\n```example\nprompt: y\nbetter: z\n```\n", "F:4:1: "),
        ("# T\ntext\n", "F:1:1: has no section"),
        ("- a\n  b\n- c\n- c\n", "F:4:1: a second section has the id 'c'"),
        ("!!! note\n\n    - c\n    - c\n", "F:4:1: a second section has the id 'c'"),
        ("::: note\n- c\n- c\n:::\n", "F:3:1: a second section has the id 'c'"),
    ],
)
def test_problems_have_their_line(tmp_path, text, expected):
    assert any(p.startswith(expected) for p in problems(tmp_path, text)), problems(tmp_path, text)


LONG = "First one. " * 60 + "\n\n" + "Second one. " * 200


def test_long_sections_are_read_by_an_extract_that_is_shown(tmp_path):
    loaded = load(tmp_path, f"# T\n## A\n{LONG}\n## B\nShort.\n")
    principle = loaded.principles["a"]
    assert principle.rule == ("First one. " * 60).strip() and principle.left_out == 2401
    assert "Second" not in (principle.compare or "")
    path = str(tmp_path / "letter.md")
    shown = CliRunner().invoke(app, ["check", path]).stdout.splitlines()
    assert shown == [
        f"note: {path}: 1 section is longer than 1,200 characters; models read the first "
        "paragraphs, as cai preview shows: line 2",
        "1 file checked, no problems",
    ]
    shown = CliRunner().invoke(app, ["preview", path, "a"]).stdout
    assert "models read the first 659 of 3,060 characters of this section" in shown
    whole = load(tmp_path, f"---\nmax_characters: 0\n---\n# T\n## A\n{LONG}\n")
    assert len(whole.principles["a"].rule or "") == 3060 and not whole.principles["a"].left_out


@pytest.mark.parametrize(
    ("sentence", "count"), [("我们应该诚实。", 171), ("هل هذا صحيح؟ ", 92), ("सच बोलो। ", 133)]
)
def test_a_long_paragraph_ends_with_a_sentence_in_any_script(tmp_path, sentence, count):
    rule = load(tmp_path, f"# T\n## A\n{sentence * 400}\n").principles["a"].rule
    assert rule == (sentence * count).strip()


def test_a_long_second_paragraph_is_read_in_part(tmp_path):
    text = "Begin. ![Picture](a.png)\n\n![Other](b.png)\n\n" + "One more. " * 300
    rule = load(tmp_path, f"# T\n## A\n{text}\n").principles["a"].rule or ""
    assert rule.startswith("Begin.\n\nOne more.") and 1_180 < len(rule) <= 1_200


def test_a_megabyte_is_checked_locked_and_compared(tmp_path):
    section = "Answer what was asked, in words that the reader knows. " * 40
    text = "# Spec\n" + "".join(f"## Rule {i}\n{section}{i}.\n\n" for i in range(460))
    assert 1_000_000 < len(text) < 1 << 20
    whole = "---\nmax_characters: 0\n---\n"
    before = load(tmp_path, whole + text, "spec.md")
    after = load(tmp_path, whole + text.replace("knows. 7.", "likes. 7."), "new.md")
    write_lock(before, tmp_path / "lock.yaml")
    assert (tmp_path / "lock.yaml").stat().st_size > 3_000_000
    assert read_lock(tmp_path / "lock.yaml") == before
    (change,) = changes(before, after)
    assert change.principle == "rule-7" and [t.text for t in change.texts] == ["rule"]
    assert "[-knows.-]{+likes.+} 7." in change.texts[0].marked()


def test_a_very_long_text_is_compared_by_sentences(tmp_path):
    text = "---\nmax_characters: 0\n---\n## A\n" + "".join(
        f"Sentence {i} is here. " for i in range(9000)
    )
    before, after = load(tmp_path, text), load(tmp_path, text.replace("e 77 i", "e LXXVII i"))
    (change,) = changes(before, after)
    assert (
        "Sentence 76 is here.[- Sentence 77 is here.-]{+ Sentence LXXVII is here.+} Sentence 78"
        in change.texts[0].marked()
    )


def test_a_run_says_how_many_sections_are_read_in_part(tmp_path, capsys):
    from cai.cli.run import _print_constitution

    loaded = load(tmp_path, f"# T\n## A\n{LONG}\n## B\nShort.\n")
    _print_constitution(loaded, tmp_path / "letter.md")
    assert "(2 principles, 1 of them read in part, " in capsys.readouterr().out
