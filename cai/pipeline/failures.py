"""Records of a stage that cannot be used: counted, named by cause, and a stop if they are most."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from cai.cleaning import excerpt
from cai.errors import RunFailed
from cai.pipeline.stage import StageContext

MAX_REASONS = 5
"""Different reasons that are kept for each status."""
_NUMBER = re.compile(r"\b(?=\w*\d)[\w-]+")
KINDS = {
    "empty": "empty",
    "too_long": "too long for the model's context",
    "filtered": "withheld by the server",
    "failed": "failed requests",
    "invalid": "not what was asked for, such as a repetition of the request",
    "unscored": "without a readable verdict",
}
"""What each status of a record means in a sentence; ``truncated`` names its limit."""
REMEDIES = {
    "truncated": "raise the limit that the reason names",
    "empty": "use a model that answers such prompts",
    "too_long": "shorten the prompts or use a model with a longer context",
    "filtered": "use a server that does not filter such texts",
    "failed": "run the same command again to ask for them again",
    "invalid": "try revise.direct, another models.critic or more revise.few_shot",
    "unscored": "the reason of each judgment says why; try another judge or judge.method (for a "
    "model that reasons first: sampled_votes); cai preview shows the prompts",
}


@dataclass(frozen=True)
class Limit:
    """The setting that cuts a stage's answers off.

    Attributes:
        name: The setting, such as ``revise.max_tokens``.
        value: Its value.
    """

    name: str
    value: int

    def __str__(self) -> str:
        return f"{self.name} = {self.value}"


class Tally:
    """Counts the records of a stage by status, and the causes in the words of servers.

    Attributes:
        statuses: Number of records by status.
    """

    def __init__(self) -> None:
        self.statuses = Counter[str]()
        self._reasons: dict[str, Reasons] = {}

    def add(self, status: str, reason: str = "") -> None:
        """Count a record.

        Args:
            status: Its status.
            reason: Why it is not ``ok``, if that is known.
        """
        self.statuses[status] += 1
        if status != "ok" and reason:
            self._reasons.setdefault(status, Reasons()).add(reason)

    @property
    def reasons(self) -> dict[str, dict[str, int]]:
        """Number of records by status and reason, the most frequent first."""
        return {status: reasons.counts for status, reasons in sorted(self._reasons.items())}

    @property
    def failed(self) -> dict[str, int]:
        """Number of records that are not ``ok``, by status."""
        return {status: n for status, n in sorted(self.statuses.items()) if status != "ok"}

    def metrics(self) -> dict[str, dict[str, dict[str, int]]]:
        """The reasons as a metric of the stage; nothing if there are none."""
        return {"reasons": self.reasons} if self._reasons else {}


class Reasons:
    """Counts texts that differ in nothing but numbers as one, and shows the first of them."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._shown: dict[str, str] = {}

    def add(self, reason: str, count: int = 1) -> None:
        """Count a reason."""
        kind = _NUMBER.sub("#", reason)
        self._counts[kind] += count
        self._shown.setdefault(kind, excerpt(reason))

    @property
    def counts(self) -> dict[str, int]:
        """How often the most frequent reasons occurred."""
        common = self._counts.most_common(MAX_REASONS)
        return {self._shown[kind]: count for kind, count in common}


def failure_counts(
    statuses: Mapping[str, int],
    limit: Limit | None = None,
    reasons: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """The records that cannot be used, by their cause: ``3 cut off at sample.max_tokens = 40``.

    Args:
        statuses: Number of records by status.
        limit: The setting that cuts records off.
        reasons: Number of records by status and reason; the most frequent one is shown.
    """
    failed = Counter({status: n for status, n in statuses.items() if n and status != "ok"})
    texts = []
    for status, count in failed.most_common():
        if status == "truncated":
            texts.append(f"{count:,} cut off at {limit}" if limit else f"{count:,} cut off")
            continue
        reason = next(iter((reasons or {}).get(status, ())), "")
        texts.append(f"{count:,} {KINDS[status]}" + (f" ({reason})" if reason else ""))
    return ", ".join(texts)


def check_failures(
    context: StageContext, noun: str, tally: Tally, limit: Limit | None = None
) -> None:
    """Report a stage's failed records in one line, and stop if they are too many.

    Args:
        context: The stage.
        noun: What its records are, in the plural.
        tally: The records by status.
        limit: The setting that cuts records off.

    Raises:
        RunFailed: If more than ``max_failed`` of the records cannot be used; names the cause and
            what to do.
    """
    statuses = tally.statuses
    total, failed = statuses.total(), statuses.total() - statuses["ok"]
    if not failed:
        return
    causes = failure_counts(statuses, limit, tally.reasons)
    summary = f"{failed:,} of {total:,} {noun} cannot be used: {causes}"
    if failed <= context.config.max_failed * total:
        context.reporter.info(summary)
        return
    main_cause = max((s for s in statuses if s != "ok"), key=lambda status: statuses[status])
    if main_cause == "truncated" and limit is not None:
        remedy = f"raise {limit.name}"
    else:
        remedy = REMEDIES.get(main_cause, "see the records")
    raise RunFailed(
        f"{summary}\n{remedy}; to continue anyway: --set max_failed=1.0\n"
        f"the records are in {context.records}"
    )
