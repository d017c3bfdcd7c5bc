r"""The formats in which people publish multiple-choice questions, with one reader each.

A reader turns a row into a question, or into the reason why it is none. These rows all say that
"4" is the right answer to "2 + 2?", or that it is the better reply::

    corrects       {"prompt": "2 + 2?", "corrects": ["4"], "incorrects": ["5"]}
                   {"prompt": "2 + 2? Options:\n (A) 5\n (B) 4\nThe answer is:",
                    "corrects": [" (B)"], "incorrects": [" (A)"]}
    behavior       {"question": "2 + 2?\n (A) 5\n (B) 4", "answer_matching_behavior": " (B)",
                    "answer_not_matching_behavior": " (A)"}
    targets        {"input": "2 + 2?", "target_scores": {"4": 1, "5": 0}}
                   {"input": "2 + 2?", "targets": {"choices": ["4", "5"], "labels": [1, 0]}}
    choices        {"question": "2 + 2?", "choices": ["5", "4"], "answer": 1}
                   {"question": "2 + 2?", "choices": {"text": ["5", "4"], "label": ["A", "B"]},
                    "answerKey": "B"}
                   {"ctx": "2 + 2?", "endings": ["5", "4"], "label": "1"}
    columns        {"question": "2 + 2?", "a": "5", "b": "4", "answer": "B"}
                   {"context": "2 is two.", "question": "2 + 2?", "ans0": "5", "ans1": "4",
                    "label": 1}
    answers        {"question": "2 + 2?", "best answer": "4", "incorrect answers": "5; 22"}
    best_of_n      {"prompt": "2 + 2?", "chosen": ["4"], "rejected": ["5", "22"]}
    labeled_pair   {"input": "2 + 2?", "output_1": "5", "output_2": "4", "label": 2}

A labeled pair may have any of the columns and labels of :mod:`cai.data.pairs`. All formats of
preferences, such as ``prompt, chosen, rejected``, are read too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cai.cleaning import clean
from cai.data.choice_layout import LETTERS, Layout, find_layout, letter_of
from cai.data.option_columns import option_columns, right_and_wrong
from cai.data.pair_columns import LeftOut, answer_columns, comparison_of
from cai.data.pair_labels import majority, votes_of
from cai.data.prompts import prompt_of, with_context
from cai.data.row_formats import RowFormat, has
from cai.data.tables import Row
from cai.data.transcripts import parse_transcript
from cai.records import Prompt
from cai.validation import shown

QUESTION_COLUMNS = (
    "question",
    "prompt",
    "input",
    "ctx",
    "question_stem",
    "query",
    "instruction",
    "goal",
    "sentence",
)
"""Names of a column with a question."""
OPTION_COLUMNS = ("choices", "options", "endings")
"""Names of a column with a list of options."""
ANSWER_COLUMNS = (
    "answerkey",
    "answer",
    "label",
    "gold",
    "answer_index",
    "target",
    "cop",
    "correct_option",
)
"""Names of a column that says which option is right."""
TARGET_COLUMNS = ("target_scores", "targets", "mc1_targets")
"""Names of a column with options and a number for each."""
NO_ANSWER = "no answer is marked as right"


class Draft(NamedTuple):
    """What a row says.

    Attributes:
        prompt: The conversation that an option's text continues.
        options: The options.
        correct: The numbers of the right ones.
        is_reply: Whether the options are whole replies to the prompt, of which one is better.
        layout: How the question itself shows its options, if it does.
        is_ordered: Whether the order of the options says nothing of which is right.
    """

    prompt: Prompt
    options: tuple[str, ...]
    correct: frozenset[int]
    is_reply: bool = False
    layout: Layout | None = None
    is_ordered: bool = True


Outcome = Draft | str
"""A question, or the reason why there is none."""


def _prompt(value: Any) -> Prompt | str:
    try:
        return prompt_of(value, "choice")
    except ValueError:
        return "no usable question"


def _draft(
    prompt: Prompt | str, right: Sequence[str], wrong: Sequence[str], *, is_reply: bool = False
) -> Outcome:
    """Make a question of right and wrong options that have no order of their own."""
    if isinstance(prompt, str):
        return prompt
    options = tuple(clean(option).strip() for option in (*right, *wrong))
    correct = frozenset(range(len(right)))
    return Draft(prompt, options, correct, is_reply, is_ordered=False)


def _texts(row: Row, name: str) -> list[str]:
    """Read a text or a list of texts."""
    value = row[name]
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        raise ValueError(f"{name} must be text or a list of texts, not {shown(value)}")
    return values


def _question(row: Row) -> Any:
    """The question of a row; the original files of ARC keep it in ``stem``."""
    value = next((row[name] for name in QUESTION_COLUMNS if name in row), None)
    value = value["stem"] if isinstance(value, dict) and "stem" in value else value
    return with_context(row, value)


# -- right and wrong answers ----------------------------------------------------------------------


def _corrects(row: Row) -> Outcome:
    """Read the paper's files; ``text_correct`` and ``text_incorrect`` are whole conversations."""
    outcome = _labeled(row["prompt"], _texts(row, "corrects"), _texts(row, "incorrects"))
    if isinstance(outcome, str) or outcome.layout is None or "text_correct" not in row:
        return outcome
    conversation = parse_transcript(clean(_texts(row, "text_correct")[0]))
    if isinstance(conversation, str):
        return outcome
    return outcome._replace(prompt=Prompt.of(conversation[0], "choice"), is_reply=True)


def _behavior(row: Row) -> Outcome:
    """Read Anthropic's ``evals``: right is what matches the behavior."""
    right = _texts(row, "answer_matching_behavior")
    return _labeled(row["question"], right, _texts(row, "answer_not_matching_behavior"))


def _labeled(question: Any, right: Sequence[str], wrong: Sequence[str]) -> Outcome:
    """Read a question whose answers are labels of options that it shows, or texts."""
    labels = [letter_of(label) for label in (*right, *wrong)]
    if not isinstance(question, str) or not all(labels):
        return _draft(_prompt(question), right, wrong)
    if sorted(labels) != list(LETTERS[: len(labels)]):
        return f"its options are not named A to {LETTERS[len(labels) - 1]}"
    layout = find_layout(clean(question), len(labels))
    if layout is None:
        return "the question does not show its options"
    prompt = _prompt(layout.question)
    if isinstance(prompt, str):
        return prompt
    correct = frozenset(LETTERS.index(label) for label in labels[: len(right)])
    return Draft(prompt, layout.options, correct, layout=layout)


# -- options with a number each -------------------------------------------------------------------


def _targets(row: Row) -> Outcome:
    """Read BIG-bench rows: right are the options with the highest score."""
    name = next(name for name in TARGET_COLUMNS if name in row)
    targets = row[name]
    if not isinstance(targets, Mapping):
        raise ValueError(f"{name} must be a mapping, not {shown(targets)}")
    if "choices" in targets:
        options, numbers = targets["choices"], list(targets["labels"])
    else:  # without a number are the options of other rows in a table
        scores = {text: score for text, score in targets.items() if score is not None}
        options, numbers = list(scores), list(scores.values())
    if not all(isinstance(number, int | float) for number in numbers):
        raise ValueError("the scores of options must be numbers")
    if len(set(numbers)) < 2:
        return NO_ANSWER
    correct = {i for i, number in enumerate(numbers) if number == max(numbers)}
    return _of_list(_prompt(_question(row)), options, correct, is_ordered=False)


def _of_list(
    prompt: Prompt | str, options: Any, correct: set[int], *, is_ordered: bool = True
) -> Outcome:
    if isinstance(prompt, str):
        return prompt
    texts = tuple(clean(text).strip() for text in _checked(options))
    return Draft(prompt, texts, frozenset(correct), is_ordered=is_ordered)


def _checked(options: Any) -> list[str]:
    if not isinstance(options, list):
        raise ValueError(f"the options must be a list of texts, not {shown(options)}")
    for option in options:
        if not isinstance(option, str):
            raise ValueError(f"the options must be a list of texts, not with {shown(option)} in it")
    return options


# -- a list of options and the right one ----------------------------------------------------------


def _option_list(row: Row) -> Any:
    """The options of a row; the original files of ARC keep them beside the stem."""
    question = row.get("question")
    if isinstance(question, Mapping):
        return question.get("choices")
    return next((row[name] for name in OPTION_COLUMNS if name in row), None)


def _choices(row: Row) -> Outcome:
    """Read a question with a list of options, such as MMLU, ARC and HellaSwag."""
    options, labels = _option_list(row), list(LETTERS)
    if isinstance(options, Mapping):  # ARC, as columns
        labels = [str(label) for label in options["label"]]
        options = list(options["text"])
    elif isinstance(options, list) and all(isinstance(option, Mapping) for option in options):
        labels = [str(option["label"]) for option in options]  # ARC, as rows
        options = [option["text"] for option in options]
    return _answered(row, _checked(options), labels)


def _columns(row: Row) -> Outcome:
    """Read a question with one column per option: ``a``, ``b``, ..., or ``ans0``, ``ans1``, ..."""
    options = option_columns(row)
    assert options is not None
    return _answered(row, options.texts, options.labels)


def _answers(row: Row) -> Outcome:
    """Read a question with columns of right and of wrong answers, such as TruthfulQA and GPQA."""
    found = right_and_wrong(row)
    assert found is not None
    question = next(value for name, value in row.items() if name.lower() == "question")
    return _draft(_prompt(with_context(row, question)), *found)


def _answered(row: Row, options: Sequence[str], labels: Sequence[str]) -> Outcome:
    column = _answer_column(row)
    answer = row[column]
    if answer in (None, "", -1, "-1"):
        return NO_ANSWER
    number = _option_number(column, answer, options, labels)
    return _of_list(_prompt(_question(row)), list(options), {number})


def _answer_column(row: Row) -> str:
    names = {name.lower(): name for name in row}
    return next((names[name] for name in ANSWER_COLUMNS if name in names), "")


def _option_number(column: str, answer: Any, options: Sequence[str], labels: Sequence[str]) -> int:
    """Return which option an answer names: by label, by text, or by its number from 0."""
    text = str(answer).strip()
    names = [letter_of(label) or label for label in labels[: len(options)]]
    label = letter_of(text) or text
    hits = {i for i, name in enumerate(names) if name == label}
    hits |= {i for i, option in enumerate(options) if option.strip() == text and option.strip()}
    digits = text.removesuffix(".0")
    if digits.isdecimal() and not set(names) & set("0123456789") and int(digits) < len(options):
        is_number = isinstance(answer, int | float) and not isinstance(answer, bool)
        hits = {int(digits)} if is_number else hits | {int(digits)}
    if len(hits) == 1:
        return hits.pop()
    found = "names more than one option" if hits else "names no option"
    raise ValueError(f"{column} {found}: {shown(answer)}; write the letter of the right one")


# -- replies --------------------------------------------------------------------------------------


def _best_of_n(row: Row) -> Outcome:
    """Read RewardBench 2 rows: every chosen reply is better than every rejected one."""
    chosen, rejected = _texts(row, "chosen"), _texts(row, "rejected")
    return _draft(_prompt(row["prompt"]), chosen, rejected, is_reply=True)


def _labeled_pair(row: Row) -> Outcome:
    """Read two replies and the label of the better one, such as LLMBar."""
    names = answer_columns(row)
    assert names is not None
    votes = votes_of(row, names)
    if not votes:
        return NO_ANSWER
    label = majority(list(votes.values()))
    if label == 0.5:
        return "a tie"
    try:
        pair = comparison_of(row, names)
    except LeftOut as error:
        return str(error)
    options = (pair.first.strip(), pair.second.strip())
    return Draft(pair.prompt, options, frozenset({0 if label > 0.5 else 1}), is_reply=True)


def _has_options(row: Row) -> bool:
    return _option_list(row) is not None and bool(_answer_column(row))


def _has_columns(row: Row) -> bool:
    is_question = any(name in row for name in QUESTION_COLUMNS)
    return is_question and bool(_answer_column(row)) and option_columns(row) is not None


def _has_answers(row: Row) -> bool:
    return "question" in {name.lower() for name in row} and right_and_wrong(row) is not None


def _has_lists(row: Row) -> bool:
    """Whether replies are lists of texts; a list of messages is a conversation."""
    lists = [row.get("chosen"), row.get("rejected")]
    return "prompt" in row and any(
        isinstance(value, list) and all(isinstance(text, str) for text in value) for value in lists
    )


def _has_targets(row: Row) -> bool:
    return any(name in row and not isinstance(row[name], str) for name in TARGET_COLUMNS)


CHOICE_FORMATS = {
    "corrects": RowFormat(
        "prompt, corrects, incorrects", has("prompt", "corrects", "incorrects"), _corrects
    ),
    "behavior": RowFormat(
        "question, answer_matching_behavior, answer_not_matching_behavior",
        has("question", "answer_matching_behavior", "answer_not_matching_behavior"),
        _behavior,
    ),
    "targets": RowFormat("input, target_scores or targets", _has_targets, _targets),
    "choices": RowFormat("question, choices, answer", _has_options, _choices),
    "columns": RowFormat("question, a, b, ..., answer", _has_columns, _columns),
    "answers": RowFormat("question, correct answer, incorrect answers", _has_answers, _answers),
    "best_of_n": RowFormat("prompt, chosen, rejected (lists)", _has_lists, _best_of_n),
    "labeled_pair": RowFormat(
        "prompt, two answers, label", lambda row: answer_columns(row) is not None, _labeled_pair
    ),
}
