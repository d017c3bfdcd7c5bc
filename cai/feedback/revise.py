"""``revise``: the critique-and-revise loop of Constitutional AI (arXiv 2212.08073, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from cai import templates
from cai.backends.protocol import Ask, Complete, Completion
from cai.constitution.schema import Constitution, Principle, fill_slots
from cai.feedback.sample import status_of
from cai.keys import digest, draw, seed_for
from cai.records import Message, Prompt, Revision, Sample, Step

Turns = tuple[Message, ...]


def revise(
    samples: Sequence[Sample], law: Constitution, ask: Ask, *, rounds: int = 4, direct: bool = False, seed: int = 0,
    temperature: float = 1.0, max_tokens: int = 256,
) -> list[Revision]:  # fmt: skip
    """Critique and revise each sample ``rounds`` times, by one principle drawn per round with replacement by weight.

    Each round starts from the prompt and the reply as it then is. ``direct`` skips the critique. Samples without a text
    are left out. A round whose answer is unusable keeps the reply and says so in its status.
    """
    usable = [sample for sample in samples if sample.status in ("ok", "truncated")]
    weights = law.used_for("revise")
    shots = few_shot(law, direct)
    replies = [sample.response for sample in usable]
    steps: list[list[Step]] = [[] for _ in usable]
    for number in range(rounds):
        drawn = [law.principles[draw(weights, seed, s.id, number)] for s in usable]
        talks = [shots + s.prompt.with_answer(reply) for s, reply in zip(usable, replies, strict=True)]

        def answers(talks: list[Turns], what: str, number: int = number) -> list[Completion]:
            calls = [
                Complete(talk, seed_for(seed, what, s.id, number), temperature, max_tokens) for s, talk in zip(usable, talks, strict=True)
            ]
            return [answer for answer in ask(calls) if isinstance(answer, Completion)]

        critiques, thoughts = [""] * len(usable), [""] * len(usable)
        if not direct:
            asked = [talk + (critique_request(p, s.prompt),) for talk, p, s in zip(talks, drawn, usable, strict=True)]
            written = answers(asked, "critique")
            critiques, thoughts = [answer.text for answer in written], [answer.thoughts for answer in written]
            talks = [talk + (Message(role="assistant", content=c),) for talk, c in zip(asked, critiques, strict=True)]
        asked = [talk + (revision_request(p, s.prompt),) for talk, p, s in zip(talks, drawn, usable, strict=True)]
        for i, answer in enumerate(answers(asked, "revise")):
            status = status_of(answer)
            text = answer.text if status == "ok" else replies[i]
            steps[i].append(
                Step(
                    principle=drawn[i].id,
                    principle_hash=drawn[i].hash,
                    critique=critiques[i],
                    revision=text,
                    unchanged=text == replies[i],
                    status=status,
                    thoughts=(thoughts[i], answer.thoughts) if thoughts[i] or answer.thoughts else (),
                )
            )
            replies[i] = text
    return [
        Revision(id=digest([s.id, [step.model_dump() for step in made]]), sample=s, steps=tuple(made))
        for s, made in zip(usable, steps, strict=True)
    ]


def critique_request(principle: Principle, prompt: Prompt) -> Message:
    """The user turn that asks for a critique."""
    text = fill_slots(principle.critique or "", {"prompt": prompt.text})
    return Message(role="user", content=templates.render_text("critique", text))


def revision_request(principle: Principle, prompt: Prompt) -> Message:
    """The user turn that asks for a revision."""
    text = fill_slots(principle.revise or "", {"prompt": prompt.text})
    return Message(role="user", content=templates.render_text("revise", text))


def few_shot(law: Constitution, direct: bool) -> Turns:
    """The constitution's worked examples as one conversation before the real one."""
    turns: list[Message] = []
    for shot in law.few_shot:
        principle, prompt = law.principles[shot.principle], Prompt.of(shot.prompt)
        turns += prompt.with_answer(shot.answer)
        if not direct:
            turns += [critique_request(principle, prompt), Message(role="assistant", content=shot.critique)]
        turns += [revision_request(principle, prompt), Message(role="assistant", content=shot.revision)]
    return tuple(turns)


def training_rows(revisions: Sequence[Revision], rows: str = "final") -> list[tuple[Prompt, str]]:
    """What to fine-tune on: the ``final`` revisions, ``all`` of them, or those up to the n-th (``upto_2``).

    The paper's section 1.2 takes the final ones, its section 3.1 all. A text is taken once per sample; a sample none of
    whose revisions is usable gives no row, for its first answer was never looked at.
    """
    chosen: dict[tuple[str, str], tuple[Prompt, str]] = {}
    for revision in revisions:
        usable = [step.revision for step in revision.steps if step.status == "ok"]
        last = len(usable) if rows == "all" else int(rows.removeprefix("upto_")) if rows.startswith("upto_") else 0
        for text in usable[:last] if last else usable[-1:]:
            chosen[revision.sample.id, text] = (revision.sample.prompt, text)
    return list(chosen.values())
