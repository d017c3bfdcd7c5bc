"""``cai status``: one row per stage of a run."""

from __future__ import annotations

from cai.cli.folders import RunFolder, run_folder
from cai.cli.summary import short_results
from cai.pipeline.metrics import open_for_reading
from cai.pipeline.stages import plan_stages
from cai.pipeline.states import StageState, stage_states

RESULT_WIDTH = 50
"""Characters of a stage's results, so that a row fits into 80 columns."""


def status(folder: RunFolder = None) -> None:
    """Show which stages of a run are done.

    Example: cai status runs/quickstart
    """
    with open_for_reading(run_folder(folder)) as run:
        for state in stage_states(run, plan_stages(run.config)).values():
            print(_row(state))


def _row(state: StageState) -> str:
    if state.status != "done" or state.manifest is None:
        return f"{state.name:<11}{state}"
    results = short_results(state.manifest.metrics, RESULT_WIDTH)
    return f"{state.name:<11}done {state.manifest.seconds:>7,.0f} s  {results}".rstrip()
