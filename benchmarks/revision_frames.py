"""Compare wordings of the requests for critiques and revisions.

    python benchmarks/revision_frames.py MODEL [--cases 32] [--temperature 0]

The drafts are the worse answers of the examples of a constitution's principles, each criticized and
revised by the principle that it breaks, so every critique should find a problem. Prints, for each
wording, without and with the constitution's examples of critique and revision: the share of
critiques that were cut off, that speak of the reply, and that also name the problem; and the share
of revisions that were cut off, that repeat the draft, that are no rewritten answer, that had to be
cleaned of words around the answer, and that are clean and new.

A critique names the problem if it shares a word of five letters or more with the principle's
question or with the draft, and does not deny the problem. It is a rule of thumb: read the texts too
(``--show``).
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cai import ResponseCache, load_constitution
from cai.backends import open_backend
from cai.backends.protocol import Completion, GenerateRequest, Model
from cai.constitution.schema import Constitution, Principle
from cai.evaluate.statistics import wilson
from cai.feedback.requests import (
    Turns,
    begun_answer,
    critique_request,
    revision_examples,
    revision_request,
)
from cai.feedback.rewritten import Context, find_rewritten
from cai.keys import seed_for
from cai.records import Message, Prompt
from cai.templates import Templates

EARLIER_CRITIQUE = """\
{{ text }}
Be specific and quote the words you mean. If there is no such problem, say so. Do not rewrite the \
reply yet.
"""
SHORT = "{{ text }}\nAnswer in one or two sentences. Do not rewrite the reply.\n"
PROBLEM = '{% set answer = "The problem with the last reply is that it" %}\n' + SHORT
CRITIQUES = {
    "request alone, as in the paper": "{{ text }}\n",
    "be specific, or say that there is no problem": EARLIER_CRITIQUE,
    "one or two sentences": SHORT,
    "the same, begun with “The problem with the last reply is that it”": PROBLEM,
    "the same, begun with “The last reply” (shipped)": "",
}
"""Sources of the template ``critique``; empty for the shipped one."""
REVISIONS = {
    "request alone, as in the paper": "{{ text }}\n",
    "… the rewritten text only": "{{ text }}\nReply with the rewritten text only.\n",
    "… the rewritten answer only (shipped)": "",
    "the same, begun with “Rewritten answer:”": '{% set answer = "Rewritten answer:" %}\n'
    "{{ text }}\nReply with the rewritten answer only.\n",
    "… keep everything else as it is": "{{ text }}\nKeep everything else as it is.\n",
}
"""Sources of the template ``revise``; empty for the shipped one."""
DENIES = re.compile(r"\b(?:not|no|n't|doesn't|isn't)\b")
SPEAKS = re.compile(r"\b(?:reply|answer|response)\b", re.IGNORECASE)
MAX_TOKENS = 96


class Case(NamedTuple):
    """A draft that breaks a principle."""

    prompt: Prompt
    draft: str
    principle: Principle


class Asked(NamedTuple):
    """How the model is asked."""

    model: Model
    constitution: Constitution
    temperature: float

    def with_template(self, name: str, source: str) -> Asked:
        """The same with another source of a template, unless that is empty."""
        overrides = {name: source} if source else {}
        templates = {**self.constitution.templates, **overrides}
        changed = self.constitution.model_copy(update={"templates": templates})
        return self._replace(constitution=changed)

    @property
    def templates(self) -> Templates:
        """The templates that the model reads."""
        return self.constitution.templates_for(self.model)

    def write(self, stage: str, turns: Sequence[Turns], cases: Sequence[Case]) -> list[Completion]:
        """The model's next turns."""
        begun = self.templates.answer_prefix(stage)
        requests = [
            GenerateRequest(t, seed_for(0, stage, case.prompt.id, 0), self.temperature, MAX_TOKENS)
            for t, case in zip(turns, cases, strict=True)
        ]
        begun_requests = [
            GenerateRequest(r.messages, r.seed, r.temperature, r.max_tokens, begun)
            for r in requests
        ]
        responses = self.model(begun_requests)
        return [response for response in responses if isinstance(response, Completion)]


def cases_of(constitution: Constitution, count: int) -> list[Case]:
    """The worse answers of the principles that revise."""
    principles = [constitution.principles[name] for name in constitution.used_for("revise")]
    return [
        Case(Prompt.of(example.prompt), example.worse, principle)
        for principle in principles
        for example in principle.examples
    ][:count]


def critiques(asked: Asked, cases: Sequence[Case]) -> list[tuple[str, bool]]:
    """The critiques, each with whether it was cut off."""
    examples = revision_examples(asked.constitution, asked.templates, direct=False)
    turns = [
        (
            *examples,
            *case.prompt.with_answer(case.draft),
            critique_request(case.principle, case.prompt, asked.templates),
        )
        for case in cases
    ]
    return [
        (begun_answer(asked.templates, "critique", c.text), c.finish_reason != "stop")
        for c in asked.write("critique", turns, cases)
    ]


def revisions(
    asked: Asked, cases: Sequence[Case], criticized: Sequence[tuple[str, bool]]
) -> list[Completion]:
    """The revisions, after critiques if there are any."""
    direct = not criticized
    examples = revision_examples(asked.constitution, asked.templates, direct=direct)
    turns = []
    for i, case in enumerate(cases):
        conversation = (*examples, *case.prompt.with_answer(case.draft))
        if not direct:
            request = critique_request(case.principle, case.prompt, asked.templates)
            written = Message(role="assistant", content=criticized[i][0])
            conversation = (*conversation, request, written)
        request = revision_request(case.principle, case.prompt, asked.templates)
        turns.append((*conversation, request))
    return asked.write("revise", turns, cases)


def stems(text: str) -> set[str]:
    """The beginnings of a text's longer words."""
    words = re.findall(r"[a-z]{5,}", text.lower())
    return {word[:5] for word in words} - {"reply", "answe", "respo", "where", "point", "quote"}


def critique_row(written: Sequence[tuple[str, bool]], cases: Sequence[Case]) -> list[float]:
    """How many critiques were cut off, speak of the reply, and name the problem."""
    speak = [
        not cut and bool(SPEAKS.search(text)) and text.strip() != case.draft
        for (text, cut), case in zip(written, cases, strict=True)
    ]
    name = [
        speaks
        and not DENIES.search(" ".join(text.split()[:12]))
        and bool(stems(text) & stems(f"{case.principle.critique} {case.draft}"))
        for speaks, (text, _), case in zip(speak, written, cases, strict=True)
    ]
    return [sum(cut for _, cut in written), sum(speak), sum(name)]


def revision_row(
    asked: Asked,
    written: Sequence[Completion],
    cases: Sequence[Case],
    criticized: Sequence[tuple[str, bool]],
) -> list[float]:
    """How many revisions were cut off, unchanged, none, cleaned, and clean and new."""
    counts = dict.fromkeys(("cut", "unchanged", "invalid", "cleaned", "good"), 0)
    for i, (completion, case) in enumerate(zip(written, cases, strict=True)):
        request = revision_request(case.principle, case.prompt, asked.templates).content
        critique = criticized[i][0] if criticized else ""
        shown = tuple(example.revision for example in asked.constitution.few_shot)
        context = Context(case.prompt.text, case.draft, request, critique, True, shown)
        found = find_rewritten(completion.text, context)
        counts["cleaned"] += bool(found.removed)
        if completion.finish_reason != "stop":
            counts["cut"] += 1
        elif found.refusal or not found.text.strip():
            counts["invalid"] += 1
        elif found.text.split() == case.draft.split():
            counts["unchanged"] += 1
        else:
            counts["good"] += 1
    return list(counts.values())


def line(name: str, shots: int, counts: Sequence[float], n: int, seconds: float) -> str:
    """One line of a table; the last share has its interval."""
    *others, last = counts
    value, low, high, _ = wilson(last, n)
    cells = [name, str(shots), *(f"{count / n:.0%}" for count in others)]
    cells.append(f"{value:.0%} ({low:.0%}-{high:.0%})")
    return f"| {' | '.join(cells)} | {seconds:.0f} s"


def show(texts: Sequence[str], cases: Sequence[Case]) -> None:
    """Print texts with what they are about."""
    for text, case in zip(texts, cases, strict=True):
        print(f"  {case.principle.id}: {case.draft}\n    -> {text}")


def compare_critiques(
    base: Asked, cases: Sequence[Case], shots: int, only: str, *, shown: bool
) -> None:
    """Print the table of critiques."""
    print("| critique | examples | cut | of the reply | names the problem |\n|---|---|---|---|---|")
    for name, source in CRITIQUES.items():
        if only not in name:
            continue
        asked, start = base.with_template("critique", source), time.perf_counter()
        written = critiques(asked, cases)
        seconds = time.perf_counter() - start
        print(line(name, shots, critique_row(written, cases), len(cases), seconds), flush=True)
        if shown:
            show([text for text, _ in written], cases)


def compare_revisions(
    base: Asked, cases: Sequence[Case], shots: int, only: str, *, shown: bool
) -> None:
    """Print the table of revisions, after the shipped critiques and without any."""
    header = "| revision | critique | examples | cut | unchanged | none | cleaned | clean and new |"
    print(f"{header}\n|---|---|---|---|---|---|---|---|")
    criticized: Mapping[str, list[tuple[str, bool]]] = {"no": [], "yes": critiques(base, cases)}
    for name, source in REVISIONS.items():
        if only not in name:
            continue
        asked = base.with_template("revise", source)
        for with_critique, texts in criticized.items():
            start = time.perf_counter()
            written = revisions(asked, cases, texts)
            seconds = time.perf_counter() - start
            counts = revision_row(asked, written, cases, texts)
            title = f"{name} | {with_critique}"
            print(line(title, shots, counts, len(cases), seconds), flush=True)
            if shown:
                show([completion.text for completion in written], cases)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--constitution", default="helpful-honest-harmless")
    parser.add_argument("--cases", type=int, default=32, help="number of drafts at most")
    parser.add_argument("--examples", type=int, nargs="*", default=[0, 4])
    parser.add_argument("--only", default="", help="a part of the names of the wordings to try")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--cache", default=":memory:", help="file that keeps the responses")
    parser.add_argument("--show", action="store_true", help="print the texts")
    arguments = parser.parse_args()
    constitution = load_constitution(arguments.constitution)
    cases = cases_of(constitution, arguments.cases)
    with ResponseCache(arguments.cache) as cache:
        model = cache.cached_model(open_backend(arguments.model))
        print(f"{len(cases)} drafts")
        for shots in arguments.examples:
            asked = Asked(model, constitution.with_examples(shots), arguments.temperature)
            compare_critiques(asked, cases, shots, arguments.only, shown=arguments.show)
            compare_revisions(asked, cases, shots, arguments.only, shown=arguments.show)


if __name__ == "__main__":
    main()
