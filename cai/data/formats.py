r"""The formats in which people publish preferences, with one reader each.

A reader turns a row into pairs, or into the reason why it is not one. These rows all say that
"Hi!" is the better answer to "Hello"::

    trl            {"prompt": "Hello", "chosen": "Hi!", "rejected": "No."}
    transcripts    {"chosen": "\n\nHuman: Hello\n\nAssistant: Hi!", "rejected": "..."}
    conversations  {"chosen": [{"role": "user", "content": "Hello"}, ...], "rejected": [...]}
    pku            {"prompt": "Hello", "response_0": "Hi!", "response_1": "No.",
                    "better_response_id": 0}
    numbered       {"instruction": "Hello", "output_1": "Hi!", "output_2": "No.", "label": 1}
    scored         {"instruction": "Hello", "completions": [{"response": "Hi!", "score": 9}, ...]}
    tree           {"message_tree_id": "1", "prompt": {"role": "prompter", "text": "Hello",
                    "replies": [{"role": "assistant", "text": "Hi!", "rank": 0}, ...]}}
    label_studio   {"data": {"prompt": "Hello", "answer1": "Hi!", "answer2": "No."},
                    "annotations": [{"result": [{"type": "pairwise",
                                                 "value": {"selected": "left"}}]}]}
    ranked         {"prompt": "Hello", "answers": [{"answer": "Hi!", "rank": 1}, ...]}
    compared       {"prompt": "Hello", "response_1": "Hi!", "response_2": "No.",
                    "preference_strength": -2}
    argilla        {"fields": {"prompt": "Hello", "response1": "Hi!", "response2": "No."},
                    "responses": {"better": [{"value": "response1"}]}}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cai.cleaning import clean
from cai.data.pair_parts import (
    SOURCE,
    Outcome,
    by_score,
    make_pair,
    make_prompt,
    number_of,
    text_in,
    usable_prompt,
)
from cai.data.prompts import PROMPT_COLUMNS, messages_of, with_system
from cai.data.rated_pairs import is_compared, is_ranked, read_compared, read_ranked
from cai.data.row_formats import RowFormat, has
from cai.data.tables import Row, is_given
from cai.data.transcripts import parse_transcript
from cai.errors import type_in_words
from cai.records import Message, Prompt, Role

SCORE_COLUMNS = ("overall_score", "fine-grained_score", "score")


def _choice(value: Any, known: Sequence[int]) -> int | None:
    """Read which answer is chosen: a whole number, perhaps written as 2.0 or as text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number in known else None


# -- chosen and rejected --------------------------------------------------------------------------


def _trl(row: Row) -> Iterator[Outcome]:
    """Read ``prompt, chosen, rejected`` as texts or messages.

    ``margin``, ``p_chosen`` and ``source`` are optional; ``cai export`` writes the last two.
    """
    prompt, chosen, rejected = _answers_to_prompt(row)
    if chosen is None or rejected is None:
        yield f"{'rejected' if chosen else 'chosen'} is not one assistant turn"
        return
    p_chosen = _optional_number(row, "p_chosen", 1.0)
    if not 0 <= p_chosen <= 1:
        raise ValueError(f"p_chosen must be a probability, not {p_chosen}")
    margin = _optional_number(row, "margin", 0.0)
    if margin < 0:
        raise ValueError(f"margin must not be negative, not {margin:g}; swap the answers instead")
    source = clean(row["source"]) if isinstance(row.get("source"), str) else ""
    yield make_pair(prompt, chosen, rejected, p_chosen, source or SOURCE, margin)


def _answers_to_prompt(row: Row) -> tuple[Prompt | str, str | None, str | None]:
    """Read the prompt and two answers, or two conversations that repeat the prompt."""
    values = row["chosen"], row["rejected"]
    if all(isinstance(value, list) and len(value) > 1 for value in values):
        both = _from_conversations(*map(messages_of, values))
        if isinstance(both, str):
            return both, "", ""
        given, turns = row.get("prompt"), both.prompt.messages
        if not is_given(given) or _repeats(turns, given):
            return with_system(row, both.prompt), both.better, both.worse
    return usable_prompt(row), _single_answer(row, "chosen"), _single_answer(row, "rejected")


def _repeats(turns: Sequence[Message], prompt: Any) -> bool:
    """Whether a conversation has the prompt in it."""
    if isinstance(prompt, str):
        return any(turn.content.strip() == prompt.strip() for turn in turns)
    return messages_of(prompt) == tuple(turns)


def _single_answer(row: Row, name: str) -> str | None:
    """Read an answer given as text or as a list of messages; None unless it is one turn."""
    value = row[name]
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError(f"{name} must be text or a list of messages, not {type_in_words(value)}")
    if value and all(isinstance(text, str) for text in value):
        raise ValueError(f"{name} is a list of replies, as for cai eval --choices, and not one")
    turns = messages_of(value)
    is_one_answer = len(turns) == 1 and turns[0].role == "assistant"
    return turns[0].content if is_one_answer else None


def _optional_number(row: Row, name: str, default: float) -> float:
    value = row.get(name)
    return default if value is None or value == "" else number_of(value, name)  # NaN is refused


def _implicit(row: Row) -> Iterator[Outcome]:
    """Read ``chosen, rejected`` as whole conversations that share all turns but the last."""
    chosen, rejected = messages_of(row["chosen"]), messages_of(row["rejected"])
    both = _from_conversations(chosen, rejected)
    yield both if isinstance(both, str) else both._replace(prompt=with_system(row, both.prompt))


def _from_conversations(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> Outcome:
    for conversation in (chosen, rejected):
        if not conversation or conversation[-1].role != "assistant":
            return "does not end with an assistant turn"
    if chosen[:-1] != rejected[:-1]:
        return "the two conversations begin differently"
    if not chosen[:-1] or chosen[-2].role != "user" or not chosen[-2].content.strip():
        return "no usable prompt"
    return make_pair(Prompt.of(chosen[:-1], SOURCE), chosen[-1].content, rejected[-1].content)


def _transcripts(row: Row) -> Iterator[Outcome]:
    """Read ``chosen, rejected`` as HH-RLHF transcripts."""
    chosen, rejected = (
        parse_transcript(clean(text_in(row, name)).replace("\r\n", "\n"))
        for name in ("chosen", "rejected")
    )
    if isinstance(chosen, str):
        yield chosen
    elif isinstance(rejected, str):
        yield rejected
    elif chosen[0] != rejected[0]:
        yield "the two conversations begin differently"
    else:
        yield make_pair(Prompt.of(chosen[0], SOURCE), chosen[1], rejected[1])


# -- two or more answers and a choice or a score --------------------------------------------------


def _pku(row: Row) -> Iterator[Outcome]:
    """Read PKU-SafeRLHF rows: two responses and the index of the better, or else the safer, one."""
    has_better = is_given(row.get("better_response_id"))
    chosen = _choice(row["better_response_id" if has_better else "safer_response_id"], (0, 1))
    if chosen is None:
        yield "no answer is chosen"
        return
    better, worse = text_in(row, f"response_{chosen}"), text_in(row, f"response_{1 - chosen}")
    yield make_pair(usable_prompt(row), better, worse)


def _numbered(row: Row) -> Iterator[Outcome]:
    """Read an instruction and/or input, two outputs, and ``label`` or ``preference`` 1 or 2."""
    chosen = _choice(row.get("label" if is_given(row.get("label")) else "preference"), (1, 2))
    if chosen is None:
        yield "no answer is chosen"
        return
    better, worse = text_in(row, f"output_{chosen}"), text_in(row, f"output_{3 - chosen}")
    yield make_pair(usable_prompt(row), better, worse)


def _scored(row: Row) -> Iterator[Outcome]:
    """Read completions with a score or a rank each (UltraFeedback), of which all pairs are made."""
    scored = []
    for number, completion in enumerate(row["completions"]):
        name = next((n for n in (*SCORE_COLUMNS, "rank") if is_given(completion.get(n))), "")
        if not name:
            yield "an answer has no score"
            continue
        score = number_of(completion[name], f"completions.{number}.{name}")
        column = "response" if "response" in completion else "completion"
        answer = _single_answer(completion, column)
        if answer is None:
            yield f"{column} is not one assistant turn"
            continue
        scored.append((answer, -score if name == "rank" else score))
    yield from by_score(usable_prompt(row), scored)


def _tree(row: Row) -> Iterator[Outcome]:
    """Read OASST message trees: at every turn, siblings with ranks, of which the lowest is best."""
    pending: list[tuple[dict[str, Any], tuple[Message, ...]]] = [(row["prompt"], ())]
    while pending:
        node, earlier = pending.pop()
        role: Role = "user" if node["role"] == "prompter" else "assistant"
        conversation = (*earlier, Message(role=role, content=clean(text_in(node, "text"))))
        replies = [reply for reply in node.get("replies") or () if not reply.get("deleted")]
        pending += [(reply, conversation) for reply in replies]
        answers = [reply for reply in replies if reply["role"] == "assistant"]
        if len(answers) < 2:
            continue
        ranked = [answer for answer in answers if answer.get("rank") is not None]
        for _ in range(len(answers) - len(ranked)):
            yield "an answer has no rank"
        scored = [
            (text_in(answer, "text"), -number_of(answer["rank"], "rank")) for answer in ranked
        ]
        yield from by_score(make_prompt([m.model_dump() for m in conversation]), scored)


# -- annotation tools -----------------------------------------------------------------------------


def _label_studio(row: Row) -> Iterator[Outcome]:
    """Read a Label Studio task of the pairwise template: each annotation chooses a side."""
    data = row["data"]
    sides = ("answer1", "answer2"), ("text1", "text2"), ("response1", "response2")
    names = next((pair for pair in sides if pair[0] in data), None)
    if names is None:
        known = ", or ".join(f"{left} and {right}" for left, right in sides)
        raise ValueError(f"data must have {known}")
    votes = [
        result["value"]["selected"]
        for annotation in row["annotations"]
        if not annotation.get("was_cancelled")
        for result in annotation.get("result") or ()
        if result.get("type") == "pairwise"
    ]
    left, right = (text_in(data, name) for name in names)
    votes_left = votes.count("left")
    yield _of_votes(_prompt_field(data), left, right, votes_left, len(votes) - votes_left)


def _argilla(row: Row) -> Iterator[Outcome]:
    """Read an Argilla record: fields with a prompt and two answers, of which responses name one."""
    fields = row["fields"]
    kinds = ("response", "answer", "completion", "generation")
    names = [name for name in fields if name.rstrip("0123456789_-") in kinds][:2]
    if len(names) < 2:
        raise ValueError("fields must have two answers, such as response1 and response2")
    values = [answer["value"] for answers in row["responses"].values() for answer in answers]
    votes = [
        sum(value in (name, number) for value in values)
        for number, name in enumerate(names, start=1)
    ]
    first, second = (text_in(fields, name) for name in names)
    yield _of_votes(_prompt_field(fields), first, second, *votes)


def _prompt_field(fields: dict[str, Any]) -> Prompt | str:
    return make_prompt(next((fields[name] for name in PROMPT_COLUMNS if name in fields), None))


def _of_votes(
    prompt: Prompt | str, first: str, second: str, votes_first: int, votes_second: int
) -> Outcome:
    """Label a pair with the share of raters who chose the better answer."""
    total = votes_first + votes_second
    if not total:
        return "no answer is chosen"
    if votes_first == votes_second:
        return "a tie"
    if votes_first < votes_second:
        first, second, votes_first = second, first, votes_second
    return make_pair(prompt, first, second, votes_first / total)


def _pair_of(kind: type) -> Callable[[Row], bool]:
    return lambda row: isinstance(row.get("chosen"), kind) and isinstance(row.get("rejected"), kind)


def _has_prompt(row: Row) -> bool:
    """Whether a row has two answers, and a prompt in a column of its own."""
    if "chosen" not in row or "rejected" not in row:
        return False
    chosen = row["chosen"]
    is_answer = isinstance(chosen, str) and not chosen.lstrip().startswith("Human:")
    is_answer |= isinstance(chosen, list) and len(chosen) == 1
    return "prompt" in row or (is_answer and any(name in row for name in PROMPT_COLUMNS))


FORMATS = {
    "trl": RowFormat("prompt, chosen, rejected", _has_prompt, _trl),
    "transcripts": RowFormat(
        "chosen, rejected (HH-RLHF texts)",
        lambda row: isinstance(row.get("chosen"), str) and "rejected" in row,
        _transcripts,
    ),
    "conversations": RowFormat("chosen, rejected (lists of messages)", _pair_of(list), _implicit),
    "pku": RowFormat(
        "prompt, response_0, response_1, better_response_id",
        has("prompt", "response_0", "response_1"),
        _pku,
    ),
    "numbered": RowFormat(
        "instruction, output_1, output_2, label", has("output_1", "output_2"), _numbered
    ),
    "scored": RowFormat(
        "instruction, completions with scores or ranks (UltraFeedback)", has("completions"), _scored
    ),
    "tree": RowFormat("message_tree_id, prompt (OASST)", has("message_tree_id", "prompt"), _tree),
    "label_studio": RowFormat(
        "data, annotations (Label Studio)", has("data", "annotations"), _label_studio
    ),
    "argilla": RowFormat("fields, responses (Argilla)", has("fields", "responses"), _argilla),
    "ranked": RowFormat("prompt, answers with ranks (Nectar)", is_ranked, read_ranked),
    "compared": RowFormat(
        "prompt, response_1, response_2, and a label, winner or preference_strength",
        is_compared,
        read_compared,
    ),
}
