r"""Rows of published preferences with columns of their own, put into those that are read here.

These rows all say that "Hi!" is the better answer to "Hello"::

    fine-tuning    {"input": {"messages": [{"role": "user", "content": "Hello"}]},
                    "preferred_output": [{"role": "assistant", "content": "Hi!"}],
                    "non_preferred_output": [{"role": "assistant", "content": "No."}]}
    last turn      {"messages": [{"role": "user", ...}, {"role": "assistant", "content": "Hi!"}],
                    "rejected_response": "No."}
    references     {"history": "Hello", "human_ref_A": "Hi!", "human_ref_B": "No.", "labels": 1}
    two scores     {"question": {"full_text": "Hello"}, "answer_0": "Hi!", "answer_1": "No.",
                    "score_0": 0.5, "score_1": -0.5}
    strength       {"prompt": "Hello", "response_1": "Hi!", "response_2": "No.",
                    "preference_strength": -2}
    many scores    {"prompt": "Hello", "responses": ["Hi!", "No."], "scores": [9, 2]}
                   {"prompt": "Hello", "responses": ["Hi!", "No."], "ranks": [1, 2]}
    summaries      {"info": {"post": "Hello"}, "summaries": [{"text": "Hi!"}, {"text": "No."}],
                    "choice": 0}
    one-hot        {"prompt": "[\"Hello\"]", "response_a": "[\"Hi!\"]", "response_b": "[\"No.\"]",
                    "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    other names    {"input": "Hello", "accepted": "Hi!", "rejected": "No."}
                   {"conversations": [{"from": "human", "value": "Hello"}],
                    "chosen": {"from": "gpt", "value": "Hi!"}, "rejected": {...}}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from typing import Any

from cai.data.pair_parts import number_of
from cai.data.row_formats import RowFormat, format_of, has
from cai.data.tables import Row, is_given

BETTER_AND_WORSE = (
    ("chosen", "rejected"),
    ("accepted", "rejected"),
    ("preferred", "dispreferred"),
    ("preferred", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_j", "response_k"),
    ("better", "worse"),
    ("win", "lose"),
)
"""Names of the columns with the better and the worse answer."""
STRENGTHS = ("preference_strength", "overall_preference")
"""Names of a column with how much better an answer is."""
LISTS = ("responses", "completions", "generations", "answers", "outputs")
"""Names of a column with a list of answers."""
SCORE_LISTS = ("scores", "ratings", "rewards")
"""Names of a column with a number for each of them, of which the highest is best."""
RANK_LISTS = ("ranks", "rank", "ranking")
"""Names of a column with a number for each of them, of which the lowest is best."""


def in_known_columns(row: Row) -> Row:
    """Add the columns that are read here to a row that has others; return any other row unchanged.

    Args:
        row: The row.

    Raises:
        ValueError: If a value in it cannot be read.
    """
    lowered = {name.lower(): value for name, value in row.items()}
    name = format_of(lowered, PUBLISHED)
    return {**row, **PUBLISHED[name].read(lowered)} if name else row


def _fine_tuning(row: Row) -> Row:
    return {
        "prompt": row["input"].get("messages"),
        "chosen": row["preferred_output"],
        "rejected": row["non_preferred_output"],
    }


def _last_turn(row: Row) -> Row:
    *prompt, answer = row["messages"]
    return {"prompt": prompt, "chosen": [answer], "rejected": row["rejected_response"]}


def _references(row: Row) -> Row:
    """Read SHP, whose label is 1 if the first answer is better and 0 if the second one is."""
    return {
        "prompt": row["history"],
        "first": row["human_ref_a"],
        "second": row["human_ref_b"],
        "p_first": row["labels"],
    }


def _two_scores(row: Row) -> Row:
    """Read WebGPT comparisons; equal scores are a tie."""
    lead = number_of(row["score_0"], "score_0") - number_of(row["score_1"], "score_1")
    question = row.get("question")
    text = question.get("full_text") if isinstance(question, dict) else question
    return {"question": text, "p_first": 0.5 if lead == 0 else float(lead > 0)}


def _strength(row: Row) -> Row:
    """Read HelpSteer: negative if the first answer is better, positive if the second one is."""
    name = next(name for name in STRENGTHS if name in row)
    if not is_given(row[name]):
        return {"p_first": None}
    strength = number_of(row[name], name)
    return {"p_first": 0.5 if strength == 0 else float(strength < 0)}


def _list_columns(row: Row) -> tuple[str, str] | None:
    """Name the columns with a list of answers and with a number for each."""
    for answers, values in product(LISTS, SCORE_LISTS + RANK_LISTS):
        if isinstance(row.get(answers), list) and isinstance(row.get(values), list):
            has_own_scores = any(isinstance(answer, dict) for answer in row[answers])
            return None if has_own_scores else (answers, values)
    return None


def _many_scores(row: Row) -> Row:
    names = _list_columns(row)
    assert names is not None
    answers, values = (row[name] for name in names)
    if len(answers) != len(values):
        raise ValueError(f"has {len(answers)} {names[0]} and {len(values)} {names[1]}")
    sign = -1 if names[1] in RANK_LISTS else 1
    scores = [sign * number_of(value, names[1]) for value in values]
    completions = [
        {"response": answer, "score": score} for answer, score in zip(answers, scores, strict=True)
    ]
    return {"completions": completions}


def _summaries(row: Row) -> Row:
    """Read comparisons of summaries; the prompt is written as the policies there were asked."""
    info, (first, second) = row["info"], row["summaries"]
    parts = [("SUBREDDIT: r/", "subreddit"), ("TITLE: ", "title"), ("POST: ", "post")]
    parts.append(("ARTICLE: ", "article"))
    given = [f"{heading}{info[name]}" for heading, name in parts if info.get(name)]
    choice = number_of(row["choice"], "choice")
    if choice not in (0, 1):
        raise ValueError(f"choice must be 0 or 1, not {choice:g}")
    return {
        "prompt": "\n\n".join([*given, "TL;DR:"]),
        "first": first["text"],
        "second": second["text"],
        "p_first": 1 - choice,
    }


def _one_hot(row: Row) -> Row:
    """Read the arenas of Kaggle: turns are lists in JSON, and each verdict has a column."""
    turns = {name: _json_list(row, name) for name in ("prompt", "response_a", "response_b")}
    verdicts = {"winner_model_a": "a", "winner_model_b": "b", "winner_tie": "tie"}
    won = [verdict for name, verdict in verdicts.items() if number_of(row[name], name) == 1]
    return {
        "conversation_a": _alternating(turns["prompt"], turns["response_a"]),
        "conversation_b": _alternating(turns["prompt"], turns["response_b"]),
        "winner": won[0] if len(won) == 1 else None,
    }


def _json_list(row: Row, name: str) -> list[Any]:
    value = row[name]
    try:
        turns = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        turns = None
    if not isinstance(turns, list):
        raise ValueError(f"{name} must be a list of turns in JSON")
    return turns


def _alternating(prompts: Sequence[Any], answers: Sequence[Any]) -> list[Row]:
    if len(prompts) != len(answers):
        raise ValueError(f"has {len(prompts)} prompts and {len(answers)} answers")
    turns = zip(prompts, answers, strict=True)
    return [
        {"role": role, "content": text or ""}
        for pair in turns
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _names_of(row: Row) -> tuple[str, str] | None:
    """Name the columns with the better and the worse answer."""
    return next((names for names in BETTER_AND_WORSE if names[0] in row and names[1] in row), None)


def _has_other_names(row: Row) -> bool:
    names = _names_of(row)
    if names is None:
        return False
    is_message = any(isinstance(row[name], dict) for name in names)
    return names != ("chosen", "rejected") or is_message


def _other_names(row: Row) -> Row:
    names = _names_of(row)
    assert names is not None
    answers = (row[name] for name in names)
    chosen, rejected = ([a] if isinstance(a, dict) else a for a in answers)
    return {"chosen": chosen, "rejected": rejected}


PUBLISHED = {
    "fine-tuning": RowFormat(
        "input, preferred_output, non_preferred_output",
        lambda row: (
            has("preferred_output", "non_preferred_output")(row)
            and isinstance(row.get("input"), dict)
        ),
        _fine_tuning,
    ),
    "last turn": RowFormat(
        "messages, rejected_response",
        lambda row: (
            isinstance(row.get("messages"), list)
            and bool(row["messages"])
            and "rejected_response" in row
            and "chosen_response" not in row
        ),
        _last_turn,
    ),
    "references": RowFormat(
        "history, human_ref_A, human_ref_B, labels",
        has("history", "human_ref_a", "human_ref_b", "labels"),
        _references,
    ),
    "two scores": RowFormat(
        "question, answer_0, answer_1, score_0, score_1",
        has("answer_0", "answer_1", "score_0", "score_1"),
        _two_scores,
    ),
    "strength": RowFormat(
        "response_1, response_2, preference_strength",
        lambda row: any(name in row for name in STRENGTHS),
        _strength,
    ),
    "many scores": RowFormat(
        "prompt, responses, scores", lambda row: _list_columns(row) is not None, _many_scores
    ),
    "summaries": RowFormat(
        "info, summaries, choice", has("info", "summaries", "choice"), _summaries
    ),
    "one-hot": RowFormat(
        "prompt, response_a, response_b, winner_model_a, winner_model_b, winner_tie",
        has("response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"),
        _one_hot,
    ),
    "other names": RowFormat(
        "a prompt and two answers by other names", _has_other_names, _other_names
    ),
}
"""Formats of rows; each is read into the columns that it adds."""
