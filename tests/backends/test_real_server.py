"""The embedded model behind a real server answers as it does in this process.

Needs a server that serves ``cai/reference/model`` in bfloat16, named in ``CAI_SERVER`` as ``http://host:port/v1#model``
(see CONTRIBUTING.md); skipped, and said so, where there is none.
"""

import os
import random

import pytest

from cai.backends import open_backend
from cai.backends.protocol import GenerateRequest, LoglikelihoodRequest
from cai.feedback.judge_methods import CritiqueOdds, PairwiseLogprobs
from cai.reference import measure, tasks, world
from cai.templates import REFERENCE

SERVER = os.environ.get("CAI_SERVER", "")
pytestmark = pytest.mark.skipif(
    not SERVER, reason="CAI_SERVER names no server of the reference model"
)


def both(requests):
    found = []
    for spec in (SERVER, "reference"):
        backend = open_backend(spec)
        answers = dict(backend.respond(requests))
        found.append([answers[i] for i in range(len(requests))])
    return found


def test_greedy_answers_are_the_same():
    rng = random.Random(0)
    requests = [
        GenerateRequest(
            measure.Prompt.of(tasks.any_request(rng, "held").text).messages,
            seed=0,
            temperature=0.0,
            max_tokens=90,
        )
        for _ in range(100)
    ]
    served, here = both(requests)
    same = sum(a.text == b.text for a, b in zip(served, here, strict=True))
    print(f"{same} of {len(requests)} answers equal")
    assert same >= 0.8 * len(
        requests
    )  # all of them where the server computes in float32; bfloat16 decides near-ties otherwise
    assert all(a.tokens_in == b.tokens_in for a, b in zip(served, here, strict=True))


@pytest.mark.parametrize("method", [PairwiseLogprobs(), CritiqueOdds()], ids=lambda m: m.name)
def test_verdicts_are_the_same(method):
    requests = []
    for case in measure.cases(60, "held", 0):
        other = world.repair(case.principle, case.request, case.reply, random.Random(0), "held")
        pair = measure.Comparison.of(
            measure.Prompt.of(case.request.text), world.text_of(case.reply), world.text_of(other)
        )
        requests += method.requests(pair, measure._constitution(case.principle), REFERENCE)
    assert all(isinstance(request, LoglikelihoodRequest) for request in requests)
    served, here = both(requests)
    from cai.feedback.judgments import option_probability

    gaps = sorted(
        abs(option_probability(a, 0) - option_probability(b, 0))
        for a, b in zip(served, here, strict=True)
    )
    print(f"median gap {gaps[len(gaps) // 2]:.4f}, largest {gaps[-1]:.4f} of {len(gaps)}")
    assert gaps[len(gaps) // 2] < 0.01 and gaps[int(0.95 * len(gaps))] < 0.05
