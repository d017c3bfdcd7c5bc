"""``revise``: the critique-and-revise loop of Constitutional AI (arXiv 2212.08073, section 3.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cai import templates
from cai.arguments import check_model, check_count, check_constitution, check_records, check_sampling
from cai.backends.protocol import Completion, GenerateRequest, Model
from cai.constitution.schema import Constitution, Principle, fill_slots
from cai.errors import ArgumentError
from cai.feedback.sample import reason_of, status_of
from cai.keys import digest, draw, seed_for
from cai.records import Message, Prompt, Revision, Sample, Step

Turns = tuple[Message, ...]


def revise(
    samples: Sequence[Sample],
    constitution: Constitution,
    model: Model,
    *,
    rounds: int = 4,
    direct: bool = False,
    seed: int = 0,
    temperature: float = 1.0,
    max_tokens: int = 256,
) -> list[Revision]:
    """Critique and revise each sample ``rounds`` times, by one principle drawn per round with replacement by weight.

    Each round starts from the prompt and the reply as it then is. ``direct`` skips the critique. Samples without a text
    are left out. A round whose critique or revision is unusable keeps the reply, with the status and the reason of the one
    that failed; after a failed critique no revision is asked for.

    Raises:
        ArgumentError: naming the argument that cannot be used.
    """
    check_records("samples", samples, Sample)
    check_model(model)
    check_count("rounds", rounds, 0)
    check_sampling(temperature, max_tokens)
    usable = [sample for sample in samples if sample.status in ("ok", "truncated")]
    check_constitution(constitution, "revise" if usable else None)
    critic = _Critic(constitution, model, direct, seed, temperature, max_tokens)
    replies = [sample.response for sample in usable]
    steps: list[list[Step]] = [[] for _ in usable]
    for number in range(rounds):
        for i, step in enumerate(critic.round(usable, replies, number)):
            steps[i].append(step)
            replies[i] = step.revision
    return [
        Revision(
            id=digest([s.id, [step.model_dump(exclude={"reason"}) for step in made]]),
            sample=s,
            steps=tuple(made),
        )
        for s, made in zip(usable, steps, strict=True)
    ]


class _Critic:
    """A model that criticises and revises replies by drawn principles, one round at a time."""

    def __init__(
        self,
        constitution: Constitution,
        model: Model,
        direct: bool,
        seed: int,
        temperature: float,
        max_tokens: int,
    ) -> None:
        self.constitution, self.model, self.direct, self.seed = constitution, model, direct, seed
        self.temperature, self.max_tokens = temperature, max_tokens
        self.few_shot, self.weights = (
            few_shot_turns(constitution, direct),
            constitution.used_for("revise"),
        )

    def round(self, samples: Sequence[Sample], replies: Sequence[str], number: int) -> list[Step]:
        """One step for each sample, from the reply it has so far."""
        drawn = [
            self.constitution.principles[draw(self.weights, self.seed, s.id, number)]
            for s in samples
        ]
        talks = [
            self.few_shot + s.prompt.with_answer(reply)
            for s, reply in zip(samples, replies, strict=True)
        ]
        critiques: dict[int, Completion] = {}
        if not self.direct:
            asked = {
                i: talks[i] + (critique_request(drawn[i], s.prompt),) for i, s in enumerate(samples)
            }
            critiques = self._write(samples, asked, "critique", number)
            talks = [
                asked[i] + (Message(role="assistant", content=critiques[i].text),)
                for i in range(len(samples))
            ]
        # a revision is only as good as its critique, so none is asked for after a critique that is not whole
        criticised = [
            i for i in range(len(samples)) if i not in critiques or status_of(critiques[i]) == "ok"
        ]
        asked = {i: talks[i] + (revision_request(drawn[i], samples[i].prompt),) for i in criticised}
        revisions = self._write(samples, asked, "revise", number)
        return [
            self._step(drawn[i], reply, critiques.get(i), revisions.get(i))
            for i, reply in enumerate(replies)
        ]

    def _write(
        self, samples: Sequence[Sample], talks: dict[int, Turns], what: str, number: int
    ) -> dict[int, Completion]:
        """The next turn of each conversation, by the index of its sample."""
        requests = [
            GenerateRequest(
                talk,
                seed_for(self.seed, what, samples[i].id, number),
                self.temperature,
                self.max_tokens,
            )
            for i, talk in talks.items()
        ]
        answers: dict[int, Completion] = {}
        for i, answer in zip(talks, self.model(requests), strict=True):
            assert isinstance(answer, Completion)
            answers[i] = answer
        return answers

    def _step(
        self,
        principle: Principle,
        reply: str,
        critique: Completion | None,
        revision: Completion | None,
    ) -> Step:
        last = revision or critique  # the one that decided how the round ended
        assert last is not None
        status = status_of(last)
        reason = reason_of(last, self.max_tokens)
        text = last.text if status == "ok" else reply
        reasoning = (critique.reasoning if critique else "", revision.reasoning if revision else "")
        return Step(
            principle=principle.id,
            principle_hash=principle.hash,
            critique=critique.text if critique else "",
            revision=text,
            unchanged=text == reply,
            status=status,
            reason=f"{'revision' if revision else 'critique'}: {reason}" if reason else "",
            reasoning=reasoning if any(reasoning) else (),
        )


def critique_request(principle: Principle, prompt: Prompt) -> Message:
    """The user turn that asks for a critique."""
    text = fill_slots(principle.critique or "", {"prompt": prompt.text})
    return Message(role="user", content=templates.render_text("critique", text))


def revision_request(principle: Principle, prompt: Prompt) -> Message:
    """The user turn that asks for a revision."""
    text = fill_slots(principle.revise or "", {"prompt": prompt.text})
    return Message(role="user", content=templates.render_text("revise", text))


def few_shot_turns(constitution: Constitution, direct: bool) -> Turns:
    """The constitution's worked examples as one conversation before the real one."""
    turns: list[Message] = []
    for shot in constitution.few_shot:
        principle, prompt = constitution.principles[shot.principle], Prompt.of(shot.prompt)
        turns += prompt.with_answer(shot.answer)
        if not direct:
            turns += [
                critique_request(principle, prompt),
                Message(role="assistant", content=shot.critique),
            ]
        turns += [
            revision_request(principle, prompt),
            Message(role="assistant", content=shot.revision),
        ]
    return tuple(turns)


def training_rows(revisions: Sequence[Revision], rows: str = "final") -> list[tuple[Prompt, str]]:
    """What to fine-tune on: the ``final`` revisions, ``all`` of them, or those up to the n-th (``upto_2``).

    The paper's section 1.2 takes the final ones, its section 3.1 all. A text is taken once per sample; a sample none of
    whose revisions is usable gives no row, for its first answer was never looked at.

    Raises:
        ArgumentError: if ``rows`` is none of these.
    """
    check_records("revisions", revisions, Revision)
    if not re.fullmatch(r"final|all|upto_[1-9]\d*", rows):
        raise ArgumentError("rows", f"must be final, all, or upto_<n> such as upto_2, not {rows!r}")
    chosen: dict[tuple[str, str], tuple[Prompt, str]] = {}
    for revision in revisions:
        usable = [step.revision for step in revision.steps if step.status == "ok"]
        last = (
            len(usable)
            if rows == "all"
            else int(rows.removeprefix("upto_"))
            if rows.startswith("upto_")
            else 0
        )
        for text in usable[:last] if last else usable[-1:]:
            chosen[revision.sample.id, text] = (revision.sample.prompt, text)
    return list(chosen.values())
