"""The judges of a run: their names, and the verdicts that each of several failed to give."""

from __future__ import annotations

from collections.abc import Sequence

from cai.backends.cached_model import CachedModel
from cai.config import RunConfig
from cai.feedback.panel import by_judge
from cai.pipeline.failures import Tally, check_failures
from cai.pipeline.stage import Metrics, StageContext
from cai.records import Preference


def names_of(config: RunConfig, judges: Sequence[CachedModel]) -> dict[str, str]:
    """The names of the judges by their fingerprints, as judgments have them.

    Args:
        config: The settings.
        judges: The judges that the settings name.
    """
    pairs = zip(judges, config.judge_models, strict=True)
    return {judge.fingerprint: name for judge, name in pairs}


class JudgeTallies:
    """Counts the judgments of each of several judges by status; nothing for a single judge.

    Args:
        names: The names of the judges by fingerprint.
    """

    def __init__(self, names: dict[str, str]) -> None:
        self._tallies = {judge: Tally() for judge in names} if len(names) > 1 else {}
        self._names = names

    def add(self, preference: Preference) -> None:
        """Count the judgments of a label."""
        for judge, judgments in by_judge(preference.judgments).items():
            if judge in self._tallies:
                for judgment in judgments:
                    self._tallies[judge].add(judgment.status, judgment.reason)

    def check(self, context: StageContext) -> None:
        """Report what each judge failed to say, and stop if one hardly says anything.

        Args:
            context: The stage.

        Raises:
            RunFailed: If more than ``max_failed`` of a judge's judgments have no verdict.
        """
        for judge, tally in self._tallies.items():
            check_failures(context, f"judgments by {self._names[judge]}", tally)

    def metrics(self) -> Metrics:
        """Number of judgments and of those without a verdict, with the reasons, by judge."""
        measured = {
            self._names[judge]: {
                "judgments": tally.statuses.total(),
                "unscored": sum(tally.failed.values()),
                **tally.metrics(),
            }
            for judge, tally in self._tallies.items()
        }
        return {"judges": measured} if measured else {}
