r"""Pairs of answers as tasks of annotation tools, and what people chose there.

A pair is written as::

    label_studio  {"data": {"pair": "3f...", "prompt": "Hello", "answer1": "Hi!", "answer2": "No."}}
    argilla       {"id": "3f...", "fields": {"prompt": "Hello", "response1": "Hi!", "response2":
                   "No."}, "metadata": {"pair": "3f..."}, ...}

and comes back with ``annotations`` or ``responses`` that name an answer, each by one person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from cai.data.tables import Row
from cai.keys import uniform
from cai.records import Comparison

Tool = Literal["label-studio", "argilla"]
QUESTION = "better"
"""The name of the question in Argilla."""
CHOICES = {"left": 1.0, "right": 0.0, "response1": 1.0, "response2": 0.0, "tie": 0.5}
"""The probability that the answer which a task has first is better, by what was chosen."""
LABEL_STUDIO_VIEW = """\
<View>
  <Header value="Which answer is better?"/>
  <Text name="prompt" value="$prompt"/>
  <Pairwise name="better" toName="answer1,answer2"/>
  <Text name="answer1" value="$answer1"/>
  <Text name="answer2" value="$answer2"/>
</View>
"""
"""The labeling interface of Label Studio for the tasks."""
ARGILLA_SETTINGS = {
    "guidelines": "Which answer is better?",
    "fields": [
        {"name": name, "title": title, "required": True, "settings": {"type": "text"}}
        for name, title in (("prompt", "prompt"), ("response1", "1"), ("response2", "2"))
    ],
    "questions": [
        {
            "name": QUESTION,
            "title": "Which answer is better?",
            "required": True,
            "settings": {
                "type": "label_selection",
                "options": [
                    {"value": name, "text": text}
                    for name, text in (("response1", "1"), ("response2", "2"), ("tie", "neither"))
                ],
            },
        }
    ],
    "metadata": [{"name": "pair", "title": "pair", "settings": {"type": "terms"}}],
}
"""The settings of an Argilla dataset for the records."""


class Vote(NamedTuple):
    """What one person says of a pair.

    Attributes:
        pair: Id of the pair in the run; empty if the row has none.
        first: The answer that the task has first.
        rater: Who it is, as the tool names the person.
        p_first: 1 if the first answer is better, 0 if the other one is, one half if neither is.
    """

    pair: str
    first: str
    rater: str
    p_first: float


def task(pair: Comparison, tool: Tool) -> Row:
    """Write a pair as a task: without its origins and labels, and in an order that is drawn.

    Args:
        pair: The two answers.
        tool: The tool.
    """
    turns = pair.prompt.messages
    prompt = (
        turns[0].content
        if len(turns) == 1
        else "\n\n".join(f"{t.role}: {t.content}" for t in turns)
    )
    answers = [pair.first, pair.second]
    if uniform("task", pair.id) < 0.5:
        answers.reverse()
    if tool == "label-studio":
        data = {"pair": pair.id, "prompt": prompt, "answer1": answers[0], "answer2": answers[1]}
        return {"data": data}
    fields = {"prompt": prompt, "response1": answers[0], "response2": answers[1]}
    empty: Row = {"suggestions": {}, "responses": {}, "vectors": {}}
    return {"id": pair.id, "fields": fields, "metadata": {"pair": pair.id}, **empty}


def votes_of(row: Row) -> Iterator[Vote]:
    """Read what people chose in a task, as the tools export it.

    Args:
        row: The task; of Label Studio with its ``annotations``, of Argilla with its ``responses``.

    Raises:
        ValueError: If it is neither.
    """
    if "annotations" in row and isinstance(row.get("data"), dict):
        yield from _label_studio(row["data"], row["annotations"])
    elif isinstance(row.get("responses"), dict) and isinstance(row.get("fields"), dict):
        yield from _argilla(row)
    else:
        raise ValueError("has no data with annotations (Label Studio), or fields with responses")


def _label_studio(data: Mapping[str, Any], annotations: list[Row]) -> Iterator[Vote]:
    for annotation in annotations:
        person = annotation.get("completed_by")
        if isinstance(person, dict):
            person = person.get("email") or person.get("id")
        results = [] if annotation.get("was_cancelled") else annotation.get("result") or ()
        for result in results:
            if result.get("type") == "pairwise" and result["value"].get("selected") in CHOICES:
                p_first = CHOICES[result["value"]["selected"]]
                yield Vote(str(data.get("pair", "")), data["answer1"], _name(person), p_first)


def _argilla(row: Row) -> Iterator[Vote]:
    pair = (row.get("metadata") or {}).get("pair") or row.get("id") or ""
    for answer in row["responses"].get(QUESTION, ()):
        if answer.get("value") in CHOICES:
            first, p_first = row["fields"]["response1"], CHOICES[answer["value"]]
            yield Vote(str(pair), first, _name(answer.get("user_id")), p_first)


def _name(person: object) -> str:
    return "unknown" if person in (None, "", "None") else str(person)
