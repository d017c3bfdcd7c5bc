"""Records of a stage that cannot be used: counted, named by cause, and a stop if they are most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from cai.errors import RunFailed
from cai.pipeline.stage import StageContext

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
    "empty": "use a model that answers such prompts",
    "too_long": "shorten the prompts or use a model with a longer context",
    "filtered": "use a server that does not filter such texts",
    "failed": "see the notes above, and run the same command again",
    "invalid": "try revise.direct, another models.critic or more revise.few_shot",
    "unscored": "try another judge or judge.method; cai preview shows the prompts",
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


def failure_counts(statuses: Mapping[str, int], limit: Limit | None = None) -> str:
    """The records that cannot be used, by their cause: ``3 cut off at sample.max_tokens = 40``.

    Args:
        statuses: Number of records by status.
        limit: The setting that cuts records off.
    """
    failed = Counter({status: n for status, n in statuses.items() if n and status != "ok"})
    texts = []
    for status, count in failed.most_common():
        cut_off = f"cut off at {limit}" if limit is not None else "cut off"
        texts.append(f"{count:,} {cut_off if status == 'truncated' else KINDS[status]}")
    return ", ".join(texts)


def check_failures(
    context: StageContext, noun: str, statuses: Mapping[str, int], limit: Limit | None = None
) -> None:
    """Report a stage's failed records in one line, and stop if they are too many.

    Args:
        context: The stage.
        noun: What its records are, in the plural.
        statuses: Number of records by status.
        limit: The setting that cuts records off.

    Raises:
        RunFailed: If more than ``max_failed`` of the records cannot be used; names the cause and
            what to do.
    """
    total = sum(statuses.values())
    failed = total - statuses.get("ok", 0)
    if not failed:
        return
    summary = f"{failed:,} of {total:,} {noun} cannot be used: {failure_counts(statuses, limit)}"
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
