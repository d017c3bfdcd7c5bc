"""The people who labeled a run: how far they agree with the judge and with each other."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cai.evaluate.agreement import agreement
from cai.records import Preference
from cai.studio.label_pages import records_of
from cai.studio.library import StudioRun
from cai.studio.pages import Pages
from cai.studio.raters import beside_judge, compare_raters

SHOWN = 100
"""Questions that are listed because raters answer them differently."""


class PeoplePages:
    """Shows the agreement of raters.

    Args:
        pages: The pages that it is one of.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[Route]:
        """The addresses and what answers each."""
        return [Route("/run/{run}/people", self.people, methods=["GET"])]

    def people(self, request: Request) -> Response:
        """The raters, their agreement, and what they answer differently."""
        run = self._pages.run(request)
        raters = compare_raters(run.labels.rows())
        differ = dict(list(raters.differ.items())[-SHOWN:][::-1])
        found = _labels(run, [question.pair for question in differ])
        overall = {rater: run.labels.by_rater(rater) for rater in raters.labels}
        judged = _labels(run, list({pair: None for own in overall.values() for pair in own}))
        return self._pages.page(
            "people",
            run=run,
            raters=raters,
            agreement={name: _with_judge(own, judged) for name, own in overall.items()},
            differ=[(q, said, *found[q.pair]) for q, said in differ.items() if q.pair in found],
            principles=run.constitution.principles,
        )


def _with_judge(
    own: dict[str, dict[str, Any]], judged: dict[str, tuple[str, Preference]]
) -> dict[str, Any]:
    records = [record for pair, (_, record) in judged.items() if pair in own]
    return agreement(beside_judge(records, own))


def _labels(run: StudioRun, pairs: list[str]) -> dict[str, tuple[str, Preference]]:
    """The judge's labels of some comparisons, with the stage that each is in."""
    found: dict[str, tuple[str, Preference]] = {}
    for stage, index in run.stages().items():
        if index.kind is Preference:
            with run.query(stage) as (_, db):
                for record in records_of(index, db, pairs):
                    found.setdefault(record.comparison.id, (stage, record))
    return found
