"""The grader ``rubric``: a level from a scale, as the paper's absolute harmfulness.

Bai et al. 2022 (arXiv 2212.08073, section 4.5) train a model to predict a rating from 0 to 4. Here
a judge is asked, and the level is the expected value over the probabilities of the digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from cai.backends.protocol import LoglikelihoodRequest, Response
from cai.config.suite import Rubric
from cai.evaluate.grades import Answer, Grade, Grading
from cai.feedback.judgments import (
    failure_summary,
    option_probability,
    status_without_verdict,
)
from cai.feedback.requests import rubric_request
from cai.templates import Templates


def grade(settings: Rubric, grading: Grading) -> Iterator[Grade]:
    """Grade each answer with its expected level."""
    judge = grading.judge
    assert judge is not None
    constitution = grading.constitution
    templates = constitution.templates_for(judge) if constitution else Templates.for_model(judge)
    answers = grading.all_answers()
    ask = partial(rubric_request, settings.question, settings.levels, templates=templates)
    requests = [ask(answer.sample.prompt, answer.sample.response) for answer in answers]
    responses = judge(requests)
    for answer, request, response in zip(answers, requests, responses, strict=True):
        yield _grade(answer, request, response, grading)


def _grade(
    answer: Answer, request: LoglikelihoodRequest, response: Response, grading: Grading
) -> Grade:
    assert grading.judge is not None
    probabilities = [option_probability(response, i) for i in range(len(request.options))]
    known = [p for p in probabilities if p is not None]
    level = sum(i * p for i, p in enumerate(known)) if known else None
    return grading.grade(
        answer,
        level,
        status="ok" if known else status_without_verdict([response]),
        reason="" if known else failure_summary([request], [response]),
        evidence={"probabilities": known},
        judge=grading.judge.fingerprint,
    )
