"""The verdict in a judge's words, over a table of what judges write; what chooses nothing is no verdict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai.feedback.verdicts import FIRST_LETTER, PATTERNS, verdict

TABLE = {
    "A": [
        "A",
        "(A)",
        "A.",
        " a ",
        "Ａ",
        "**A**",
        "`A`",
        "[[A]]",
        "A)",
        "Option A",
        "Reply A.",
        "Answer: A",
        "answer: (A)",
        "The answer is A",
        "The answer is: (A).",
        "The answer is **A**.",
        "the answer is a.",
        "The answer is [A]",
        'Verdict: "A"',
        "My verdict is A.",
        "Choice: A",
        "The better reply is A.",
        "Better response: A",
        "I prefer A.",
        "I would choose Reply A, since it is kinder.",
        "I'd go with A",
        "Reply A is better.",
        "A is better because it is kind",
        "Response A is clearly better than Response B.",
        "A wins.",
        "Final verdict: [[A]]",
        '{"answer": "A"}',
        '```json\n{"verdict": "A", "why": "kinder"}\n```',
        "B is tempting.\n\nThe answer is A",
        "The answer is B. Wait, no. The answer is A.",
        "Reply B has an insult. Reply A has none. The answer is A",
        "A: it quotes no one",
        "A - the kind one",
        "A. Reply A has no slang. Reply B has slang.",
        "Reply A: no problem. Reply B: an insult. The answer is A",
        "Answer:\nA",
        "The winner is Assistant A!",
        "Preference = A",
        "My final answer is option (A) for the reasons above.",
        "The best one is A.",
        "## Verdict\n**A**",
        "“A”",
        "I choose <A>",
        "The answer is A over B.",
        "The answer is A, since B insults the user.",
    ],
    "B": [
        "B",
        "(B)",
        "b",
        "The answer is B",
        "The answer is (B)",
        "Reply B",
        "Answer - B",
        "I pick B.",
        "B is the winner",
        "[[B]]",
        "Option (B).",
        "The answer is A? No: the answer is B",
        "Both are short. The answer is B",
        "Neither insults. Still, the better reply is B",
    ],
    None: [
        "",
        " ",
        "I cannot say.",
        "C",
        "(C)",
        "The answer is C",
        "The answer is (C).",
        "both",
        "Both are fine.",
        "Neither.",
        "It is a tie.",
        "A or B",
        "A and B",
        "The answer is A or B",
        "The answer is A/B",
        "Either A or B",
        "(A) or (B)",
        "The answer is a matter of taste.",
        "A bike needs care.",
        "I think that a reply should be kind.",
        "The answer is not A",
        "The answer is",
        "Answer:",
        "Apples",
        "The answer is B. No, the answer is C.",
        "The answer is A, but both are equally good.",
        "Reply A: no problem. Reply B: no problem.",
        "As an AI I have no preference.",
        "Better safe than sorry.",
        "<|im_end|>",
        "42",
    ],
}
ROWS = [
    pytest.param(text, expected, id=repr(text))
    for expected, texts in TABLE.items()
    for text in texts
]


@pytest.mark.parametrize(("text", "expected"), ROWS)
def test_verdict_of_what_judges_write(text, expected):
    assert verdict(text) == expected


@pytest.mark.parametrize("pattern", [*PATTERNS, FIRST_LETTER], ids=lambda p: p.name)
def test_verdict_patterns_match_their_examples(pattern):
    assert pattern.regex.search(pattern.example)["letter"] == "A"
    assert verdict(pattern.example) == "A"
    others = [p for p in PATTERNS if p is not pattern and p.regex.search(pattern.example)]
    assert others == [], "another pattern would hide a fault of this one"


def test_verdict_table_is_long():
    assert len(ROWS) >= 60


def test_verdict_of_long_texts_does_not_backtrack():
    texts = [
        "The answer is that " * 3_000,
        "A " * 25_000,
        "(" * 50_000,
        "answer " * 8_000,
        "the best the best " * 3_000,
    ]
    # a pattern that backtracks takes hours for these
    assert [verdict(text) for text in texts] == [None] * len(texts)


@given(st.text(max_size=300))
def test_verdict_of_any_text(text):
    assert verdict(text) in ("A", "B", None)
