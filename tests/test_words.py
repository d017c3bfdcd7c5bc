"""The length of texts in scripts with and without spaces."""

import pytest

from cai.evaluate.audit import bigram_jaccard, length_bias
from cai.feedback.judge import is_empty_answer
from cai.records import Comparison, Preference, Prompt
from cai.words import estimated_tokens, words

CHINESE = "诚实是最好的策略，因为谎言迟早会被发现，而信任一旦失去就很难再恢复，所以请始终说真话。"
GERMAN = "Die Geschwindigkeitsbegrenzung auf Bundesautobahnen bleibt umstritten."
ARABIC = "الصدق أفضل سياسة لأن الكذب ينكشف عاجلا أم آجلا."
HINDI = "ईमानदारी सबसे अच्छी नीति है क्योंकि झूठ पकड़ा जाता है।"
LABEL = {"source": "ai", "judge": "j"}


def preference(first, second, p_first):
    comparison = Comparison.of(Prompt.of("p"), first, second)
    return Preference(id=first[:4], comparison=comparison, p_first=p_first, **LABEL)


def test_english_words_are_those_between_blanks():
    assert words(" Be kind,\nalways. ") == ["Be", "kind,", "always."]
    assert estimated_tokens("Be kind, always.") == pytest.approx(4.2)


@pytest.mark.parametrize(
    ("text", "count", "least", "most"),
    [
        (CHINESE, 43, 30, 55),
        (GERMAN, 6, 12, 20),
        (ARABIC, 9, 15, 30),
        (HINDI, 10, 18, 45),
        ("日本語と English の混ざった文。", 12, 12, 18),
        ("สวัสดีครับ", 10, 5, 12),
    ],
)
def test_words_and_tokens_of_every_script(text, count, least, most):
    assert len(words(text)) == count
    assert least <= estimated_tokens(text) <= most


@pytest.mark.parametrize("text", [CHINESE, GERMAN, ARABIC, HINDI])
def test_length_bias_is_seen_in_every_language(text):
    short = text[: len(text) // 3]
    rows = [preference(text, short, 0.9), preference(short, text, 0.2)]
    measured = length_bias(rows)
    assert measured["longer_wins"]["value"] == 1 and measured["correlation"] > 0.9


def test_chinese_answers_are_compared_by_characters():
    assert bigram_jaccard(CHINESE, CHINESE.replace("谎言", "假话")) > 0.8
    assert bigram_jaccard(CHINESE, "我不知道。") < 0.1
    assert not is_empty_answer(f"{CHINESE}请看：") and is_empty_answer("答案：")
