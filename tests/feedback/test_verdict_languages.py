"""Verdicts in other languages, by a table of words; and sentences that are no verdicts."""

import re

import pytest

from cai.feedback.verdict_words import FIELDS, languages, shipped_table
from cai.feedback.verdicts import verdict

VERDICTS = {
    "zh": ["答案是B", "我选择 B。", "更好的回答是：B", "A不够礼貌，所以答案是B。", "回答B更好",
           "两个回答都很短。\n最终判断：**B**", "选项B"],
    "de": ["Die Antwort ist B.", "Ich bevorzuge Antwort B.", "Antwort B ist besser.", "Antwort B",
           "Antwort A ist nicht freundlich. Die bessere Antwort ist B.", "Mein Urteil: (B)",
           "Ich würde mich für B entscheiden.", "Ich würde B wählen."],
    "ar": ["الإجابة هي B", "أختار B.", "الرد B هو الأفضل", "الإجابة هي (ب)", "الحكم: B"],
    "hi": ["उत्तर B है।", "मेरी पसंद: B", "जवाब B बेहतर है", "मैं B चुनूंगा", "बेहतर उत्तर B है"],
    "fr": ["La meilleure réponse est B.", "Je choisis la réponse B", "B est meilleure."],
    "es": ["La respuesta es B.", "Elijo B", "La respuesta B es mejor."],
    "ru": ["Лучший ответ: B", "Я выбираю ответ Б.", "Ответ B лучше."],
    "ja": ["答えはBです。", "回答Bの方が良いです。", "Bを選びます"],
}  # fmt: skip
NO_VERDICTS = {
    "zh": ["答案是A还是B？", "我不选择A", "两个回答都好", "答案是A或B", "更差的回答是A", "如果答案是A",
           "A和B一样好", "回答A并不更好"],
    "de": ["Ist die Antwort A?", "Antwort A ist nicht besser.", "Die schlechtere Antwort ist A.",
           "Die Antwort ist A oder B.", "Beide sind gleich gut.", "Die Antwort ist nicht A.",
           "Ob die Antwort A ist, weiß ich nicht.", "Ich wähle weder A noch B."],
    "ar": ["هل الإجابة هي A؟", "الإجابة ليست A", "الإجابة هي A أو B", "الرد الأسوأ هو A",
           "كلاهما جيد"],
    "hi": ["क्या उत्तर A है?", "उत्तर A नहीं है", "उत्तर A या B है", "गलत उत्तर A है",
           "दोनों अच्छे हैं"],
    "en": ["I would not choose A.", "I can't say that the answer is A.", "The answer is A?",
           "Is the answer A? Is it B?", "Answer A is not better.", "The worst reply is: A",
           "The worse answer is A.", "I compared answer B with answer A.", "I never pick A",
           "The user asked whether Reply A is better.", "Nobody would say the answer is A.",
           "The answer is A or maybe B", "A: rude.\nB: kind.", "A, B and C are all fine."],
    "fr": ["La réponse n'est pas A.", "La moins bonne réponse est A.", "La réponse est A ou B."],
    "es": ["La respuesta no es A.", "La respuesta es a favor de todos.", "¿Es mejor A?"],
}  # fmt: skip


OTHERS = {"A": "B", "B": "A", "ب": "أ", "Б": "А"}


def rows(table):
    return [pytest.param(text, id=text) for texts in table.values() for text in texts]


@pytest.mark.parametrize("text", rows(VERDICTS))
def test_verdicts(text):
    assert verdict(text) == "B"
    swapped = re.sub(
        r"(?<![A-Za-z])[AB](?![A-Za-z])|(?<!\w)[بБ](?!\w)", lambda m: OTHERS[m[0]], text
    )
    assert verdict(swapped) == "A"


@pytest.mark.parametrize("text", rows(NO_VERDICTS))
def test_no_verdicts(text):
    assert verdict(text) is None


def test_the_table_has_only_known_fields():
    for language, words in shipped_table().items():
        assert set(words) <= {*FIELDS, "letters"}, language


def test_a_user_can_add_a_language():
    text = "Svaret är B."
    assert verdict(text) is None
    assert verdict(text, languages({"sv": {"before": ["svaret"], "links": ["är"]}})) == "B"
    swedish = {"before": ["svaret"], "links": ["är"], "negations": ["inte"]}
    assert verdict("Det är inte så att svaret är B.", languages({"sv": swedish})) is None
