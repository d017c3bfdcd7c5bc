"""The shapes in which people publish preferences, one reader each: from a row to pairs, or to the reason why it is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from cai.cleaning import clean
from cai.data.prompts import messages_of, prompt_of
from cai.data.tables import Row
from cai.data.transcripts import parse_transcript
from cai.records import Message, Prompt

SOURCE = "human"


class Pair(NamedTuple):
    """Two answers to a prompt and the probability that the one named ``better`` is it."""

    prompt: Prompt
    better: str
    worse: str
    p_better: float = 1.0
    source: str = SOURCE
    margin: float = 0.0  # by how much it is better, where somebody said so


Outcome = Pair | str
"""A pair, or why there is none."""


class Format(NamedTuple):
    """A shape of rows: its columns in words, whether a row has it, and how pairs are read from a row."""

    columns: str
    fits: Callable[[Row], bool]
    read: Callable[[Row], Iterator[Outcome]]


def format_of(row: Row) -> str:
    """The name of the first format that a row fits; empty if it fits none."""
    return next((name for name, form in FORMATS.items() if form.fits(row)), "")


def _pair(
    prompt: Prompt | str,
    better: str,
    worse: str,
    p_better: float = 1.0,
    source: str = SOURCE,
    margin: float = 0.0,
) -> Outcome:
    """A pair of two texts, unless they are no pair."""
    if isinstance(prompt, str):
        return prompt
    better, worse = clean(better).strip(), clean(worse).strip()
    if not better or not worse:
        return "an answer is empty"
    if better == worse:
        return "both answers are the same"
    return Pair(prompt, better, worse, p_better, source, margin)


def _prompt(value: Any) -> Prompt | str:
    try:
        return prompt_of(value, SOURCE)
    except ValueError:
        return "no usable prompt"


def _text(row: Row, name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} should be a text, found {type(value).__name__}")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} should be a number, found {value!r}")
    return float(value)


def _by_score(prompt: Prompt | str, scored: Sequence[tuple[str, float]]) -> Iterator[Outcome]:
    """All pairs of answers whose scores differ; the higher one is the better one."""
    for (one, high), (other, low) in combinations(sorted(scored, key=lambda pair: -pair[1]), 2):
        yield "a tie" if high == low else _pair(prompt, one, other)


# -- chosen and rejected -----------------------------------------------------------------------------------------------


def _trl(row: Row) -> Iterator[Outcome]:
    """``prompt, chosen, rejected`` as texts or messages; ``margin`` if there is one; ``p_chosen`` and ``source`` as this project's
    export writes them."""
    answers = []
    for name in ("chosen", "rejected"):
        value = row[name]
        if isinstance(value, list):
            turns = messages_of(value)
            if len(turns) != 1 or turns[0].role != "assistant":
                yield f"{name} is not one assistant turn"
                return
            value = turns[0].content
        if not isinstance(value, str):
            raise ValueError(
                f"{name} should be a text or a list of messages, found {type(value).__name__}"
            )
        answers.append(value)
    p_chosen = _number(row["p_chosen"], "p_chosen") if row.get("p_chosen") is not None else 1.0
    if not 0 <= p_chosen <= 1:
        raise ValueError(f"p_chosen should be a probability, found {p_chosen}")
    margin = _number(row["margin"], "margin") if row.get("margin") is not None else 0.0
    if margin < 0:
        raise ValueError(
            f"margin should not be negative, found {margin:g}: then the other answer would be the better one"
        )
    source = clean(row["source"]) if isinstance(row.get("source"), str) else ""
    yield _pair(_prompt(row["prompt"]), answers[0], answers[1], p_chosen, source or SOURCE, margin)


def _implicit(row: Row) -> Iterator[Outcome]:
    """``chosen, rejected`` as whole conversations; the prompt is the turns they begin with in common."""
    chosen, rejected = messages_of(row["chosen"]), messages_of(row["rejected"])
    yield _from_conversations(chosen, rejected)


def _from_conversations(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> Outcome:
    if (
        not chosen
        or not rejected
        or chosen[-1].role != "assistant"
        or rejected[-1].role != "assistant"
    ):
        return "does not end with an assistant turn"
    if chosen[:-1] != rejected[:-1]:
        return "the two conversations begin differently"
    if not chosen[:-1] or chosen[-2].role != "user" or not chosen[-2].content.strip():
        return "no usable prompt"
    return _pair(Prompt.of(chosen[:-1], SOURCE), chosen[-1].content, rejected[-1].content)


def _transcripts(row: Row) -> Iterator[Outcome]:
    """``chosen, rejected`` as HH-RLHF transcripts."""
    parsed = [parse_transcript(clean(_text(row, name))) for name in ("chosen", "rejected")]
    (chosen, rejected) = parsed
    if isinstance(chosen, str) or isinstance(rejected, str):
        yield chosen if isinstance(chosen, str) else str(rejected)
    elif chosen[0] != rejected[0]:
        yield "the two conversations begin differently"
    else:
        yield _pair(Prompt.of(chosen[0], SOURCE), chosen[1], rejected[1])


# -- two or more answers and a choice or a score -----------------------------------------------------------------------


def _pku(row: Row) -> Iterator[Outcome]:
    """PKU-SafeRLHF: ``prompt, response_0, response_1`` and the index of the better, or else of the safer, one."""
    column = (
        "better_response_id" if row.get("better_response_id") is not None else "safer_response_id"
    )
    if (index := row[column]) not in (0, 1):
        yield "no answer is chosen"
        return
    yield _pair(
        _prompt(row["prompt"]), _text(row, f"response_{index}"), _text(row, f"response_{1 - index}")
    )


def _numbered(row: Row) -> Iterator[Outcome]:
    """``instruction`` and/or ``input``, ``output_1, output_2`` and ``label`` or ``preference`` 1 or 2."""
    asked = "\n\n".join(
        row[name].strip()
        for name in ("instruction", "input")
        if isinstance(row.get(name), str) and row[name].strip()
    )
    choice = row["label"] if row.get("label") is not None else row.get("preference")
    if choice not in (1, 2):
        yield "no answer is chosen"
        return
    yield _pair(
        _prompt(asked), _text(row, f"output_{choice}"), _text(row, f"output_{3 - int(choice)}")
    )


def _scored(row: Row) -> Iterator[Outcome]:
    """UltraFeedback: ``instruction`` (or ``prompt``) and ``completions`` of ``{response, overall_score | fine-grained_score | score}``."""
    prompt = _prompt(row["instruction"] if "instruction" in row else row["prompt"])
    scored = []
    for number, completion in enumerate(row["completions"]):
        name = next(
            (
                n
                for n in ("overall_score", "fine-grained_score", "score")
                if completion.get(n) is not None
            ),
            "",
        )
        if not name:
            yield "an answer has no score"
            continue
        scored.append(
            (
                _text(completion, "response"),
                _number(completion[name], f"completions.{number}.{name}"),
            )
        )
    yield from _by_score(prompt, scored)


def _tree(row: Row) -> Iterator[Outcome]:
    """OASST message trees: siblings with ranks, the lowest rank the best, at every place of the tree."""
    pending: list[tuple[dict[str, Any], tuple[Message, ...]]] = [(row["prompt"], ())]
    while pending:
        node, before = pending.pop()
        role = "user" if node["role"] == "prompter" else "assistant"
        talk = (*before, Message(role=role, content=clean(_text(node, "text"))))  # type: ignore[arg-type]
        replies = [reply for reply in node.get("replies") or () if not reply.get("deleted")]
        pending += [(reply, talk) for reply in replies]
        answers = [reply for reply in replies if reply["role"] == "assistant"]
        if len(answers) < 2:
            continue
        ranked = [
            (_text(a, "text"), -_number(a["rank"], "rank"))
            for a in answers
            if a.get("rank") is not None
        ]
        yield from ("an answer has no rank" for _ in range(len(answers) - len(ranked)))
        yield from _by_score(_prompt([m.model_dump() for m in talk]), ranked)


# -- annotation tools --------------------------------------------------------------------------------------------------


def _label_studio(row: Row) -> Iterator[Outcome]:
    """A Label Studio task of the pairwise template: ``data`` with a prompt and two answers, ``annotations`` with a side each."""
    data = row["data"]
    asked = next((data[n] for n in ("prompt", "question", "instruction") if n in data), None)
    names = next(
        (
            pair
            for pair in (("answer1", "answer2"), ("text1", "text2"), ("response1", "response2"))
            if pair[0] in data
        ),
        None,
    )
    if names is None:
        raise ValueError(
            "data should hold answer1 and answer2, text1 and text2, or response1 and response2"
        )
    sides = [
        result["value"]["selected"]
        for annotation in row["annotations"]
        if not annotation.get("was_cancelled")
        for result in annotation.get("result") or ()
        if result.get("type") == "pairwise"
    ]
    left = sum(side == "left" for side in sides)
    yield _of_votes(
        _prompt(asked), _text(data, names[0]), _text(data, names[1]), left, len(sides) - left
    )


def _argilla(row: Row) -> Iterator[Outcome]:
    """An Argilla record: ``fields`` with a prompt and two answers, ``responses`` whose values name one of the two fields."""
    fields = row["fields"]
    asked = next((fields[n] for n in ("prompt", "instruction", "question") if n in fields), None)
    names = [
        n
        for n in fields
        if n.rstrip("0123456789_-") in ("response", "answer", "completion", "generation")
    ][:2]
    if len(names) < 2:
        raise ValueError(
            "fields should hold a prompt and two answers such as response1 and response2"
        )
    said = [answer["value"] for answers in row["responses"].values() for answer in answers]
    votes = [
        sum(value in (name, number) for value in said) for number, name in enumerate(names, start=1)
    ]
    yield _of_votes(
        _prompt(asked), _text(fields, names[0]), _text(fields, names[1]), votes[0], votes[1]
    )


def _of_votes(
    prompt: Prompt | str, first: str, second: str, votes_first: int, votes_second: int
) -> Outcome:
    """A pair labelled with the share of the raters who chose the better one."""
    total = votes_first + votes_second
    if not total:
        return "no answer is chosen"
    if votes_first == votes_second:
        return "a tie"
    if votes_first < votes_second:
        first, second, votes_first = second, first, votes_second
    return _pair(prompt, first, second, votes_first / total)


def _has(*columns: str) -> Callable[[Row], bool]:
    return lambda row: all(column in row for column in columns)


def _pair_of(kind: type) -> Callable[[Row], bool]:
    return lambda row: isinstance(row.get("chosen"), kind) and isinstance(row.get("rejected"), kind)


FORMATS = {
    "trl": Format("prompt, chosen, rejected", _has("prompt", "chosen", "rejected"), _trl),
    "transcripts": Format(
        "chosen, rejected (HH-RLHF texts)",
        lambda row: isinstance(row.get("chosen"), str) and "rejected" in row,
        _transcripts,
    ),
    "conversations": Format("chosen, rejected (lists of messages)", _pair_of(list), _implicit),
    "pku": Format(
        "prompt, response_0, response_1, better_response_id",
        _has("prompt", "response_0", "response_1"),
        _pku,
    ),
    "numbered": Format(
        "instruction, output_1, output_2, label", _has("output_1", "output_2"), _numbered
    ),
    "scored": Format("instruction, completions (UltraFeedback)", _has("completions"), _scored),
    "tree": Format("message_tree_id, prompt (OASST)", _has("message_tree_id", "prompt"), _tree),
    "label_studio": Format(
        "data, annotations (Label Studio)", _has("data", "annotations"), _label_studio
    ),
    "argilla": Format("fields, responses (Argilla)", _has("fields", "responses"), _argilla),
}
