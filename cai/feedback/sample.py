"""``sample``: prompts in, answers of a model out."""

from __future__ import annotations

from collections.abc import Sequence

from cai.arguments import check_model, check_count, check_records, check_sampling
from cai.backends.protocol import Completion, GenerateRequest, Model
from cai.keys import digest, seed_for
from cai.records import Prompt, Provenance, Sample, Status


def sample(
    prompts: Sequence[Prompt],
    model: Model,
    *,
    n: int = 1,
    seed: int = 0,
    temperature: float = 1.0,
    max_tokens: int = 256,
) -> list[Sample]:
    """``n`` answers to each prompt, the answers to one prompt side by side.

    The seed of an answer belongs to (``seed``, prompt, draw), so it depends neither on the order nor on the number of
    prompts. An empty or cut-off answer is kept, with a status that says so.

    Raises:
        ArgumentError: naming the argument that cannot be used.
    """
    check_records("prompts", prompts, Prompt)
    check_model(model)
    check_count("n", n)
    check_sampling(temperature, max_tokens)
    wanted = [(prompt, draw) for prompt in prompts for draw in range(n)]
    requests = [
        GenerateRequest(
            prompt.messages, seed_for(seed, "sample", prompt.id, draw), temperature, max_tokens
        )
        for prompt, draw in wanted
    ]
    samples = []
    for (prompt, draw), request, answer in zip(wanted, requests, model(requests), strict=True):
        assert isinstance(answer, Completion)
        provenance = Provenance(
            model=model.fingerprint,
            seed=request.seed,
            temperature=temperature,
            max_tokens=max_tokens,
        )
        name = digest([prompt.id, provenance.model_dump(), draw])
        samples.append(
            Sample(
                id=name,
                prompt=prompt,
                response=answer.text,
                draw=draw,
                status=status_of(answer),
                provenance=provenance,
                reasoning=answer.reasoning,
                reason=reason_of(answer, max_tokens),
            )
        )
    return samples


def status_of(answer: Completion) -> Status:
    """``ok``, or what is wrong with an answer as a text."""
    if answer.finish_reason in ("too_long", "filtered", "failed"):
        return answer.finish_reason
    if not answer.text.strip():
        return "empty"
    return "truncated" if answer.finish_reason == "length" else "ok"


def reason_of(answer: Completion, max_tokens: int) -> str:
    """Why an answer is not ``ok``, in the server's words or by the limit it reached; empty where it is, or nobody said why."""
    if status_of(answer) == "ok":
        return ""
    return answer.reason or (
        f"cut at max_tokens={max_tokens}" if answer.finish_reason == "length" else ""
    )
