"""Grades in the log formats of other evaluation tools: inspect_ai and lm-evaluation-harness."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cai import __version__
from cai.config.suite import Suite
from cai.constitution.slugs import slug
from cai.evaluate.grades import Grade
from cai.evaluate.statistics import mean
from cai.files import write_json, write_text
from cai.keys import digest

LOG_FORMATS = ("inspect", "lm-eval")
"""The formats."""


def write_logs(
    formats: Sequence[str], suites: Sequence[Suite], grades: Sequence[Grade], folder: Path
) -> None:
    """Write the grades of each suite and model as logs of other tools.

    Args:
        formats: Some of :data:`LOG_FORMATS`.
        suites: The suites.
        grades: Their grades.
        folder: Where to write ``inspect_SUITE_MODEL.json`` and ``samples_SUITE_MODEL.jsonl``.
    """
    groups: dict[tuple[str, str], list[Grade]] = {}
    for grade in grades:
        groups.setdefault((grade.suite, grade.model), []).append(grade)
    by_name = {suite.name: suite for suite in suites}
    for (name, model), of_model in groups.items():
        suite, file = by_name[name], f"{name}_{slug(model) or digest(model)}"
        if "inspect" in formats:
            write_json(folder / f"inspect_{file}.json", inspect_log(suite, of_model))
        if "lm-eval" in formats:
            write_text(folder / f"samples_{file}.jsonl", "\n".join(lm_eval_lines(suite, of_model)))


def inspect_log(suite: Suite, grades: Sequence[Grade]) -> dict[str, Any]:
    """Return the grades of one model as an inspect log.

    An answer without a grade has no score, and its status and reason as metadata.

    Args:
        suite: The suite.
        grades: The grades of the model.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    name = digest([suite.name, *(grade.id for grade in grades)])
    graded = [grade.value for grade in grades if grade.value is not None]
    metrics = {"mean": {"name": "mean", "value": mean(graded)}} if graded else {}
    score = {
        "name": suite.metric,
        "scorer": suite.grader.kind,
        "scored_samples": len(graded),
        "unscored_samples": len(grades) - len(graded),
        "metrics": metrics,
    }
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "run_id": name,
            "task_id": name,
            "created": now,
            "task": suite.name,
            "dataset": {"name": suite.name, "location": suite.prompts, "samples": len(grades)},
            "model": grades[0].model,
            "config": {"epochs": suite.sampling.samples},
            "packages": {"cai": __version__},
            "metadata": {"about": suite.about, "better": suite.better},
        },
        "plan": {"name": "plan", "steps": [{"solver": "generate", "params": {}}]},
        "results": {
            "total_samples": len(grades),
            "completed_samples": len(grades),
            "scores": [score],
        },
        "stats": {"started_at": now, "completed_at": now, "model_usage": {}},
        "samples": [_inspect_sample(suite, grade) for grade in grades],
    }


def _inspect_sample(suite: Suite, grade: Grade) -> dict[str, Any]:
    turns = [message.model_dump() for message in grade.prompt.messages]
    answer = {"role": "assistant", "content": grade.answer, "source": "generate"}
    stop = "max_tokens" if grade.cut else "stop"
    sample: dict[str, Any] = {
        "id": grade.case,
        "epoch": grade.draw + 1,
        "input": turns,
        "target": "",
        "messages": [*turns, answer],
        "output": {
            "model": grade.model,
            "choices": [{"message": answer, "stop_reason": stop}],
        },
        "metadata": {"status": grade.status, "reason": grade.reason},
    }
    if grade.value is not None:
        score = {"value": grade.value, "answer": grade.answer, "metadata": grade.evidence}
        sample["scores"] = {suite.metric: score}
    return sample


def lm_eval_lines(suite: Suite, grades: Sequence[Grade]) -> list[str]:
    """Return the grades of one model as lines of ``samples_*.jsonl`` of lm-evaluation-harness.

    An answer without a grade has no value of the metric.

    Args:
        suite: The suite.
        grades: The grades of the model.
    """
    numbers: dict[str, int] = {}
    lines = []
    for grade in grades:
        turns = [message.model_dump() for message in grade.prompt.messages]
        asked = json.dumps(turns, ensure_ascii=False)
        line = {
            "doc_id": numbers.setdefault(grade.case, len(numbers)),
            "doc": {"id": grade.case, "messages": turns},
            "target": "",
            "arguments": {"gen_args_0": {"arg_0": asked, "arg_1": _sampling(suite)}},
            "resps": [[grade.answer]],
            "filtered_resps": [grade.answer],
            "filter": "none",
            "metrics": [suite.metric],
            "doc_hash": digest([grade.case], 64),
            "prompt_hash": digest(asked, 64),
            "target_hash": digest("", 64),
        }
        if grade.value is not None:
            line[suite.metric] = grade.value
        lines.append(json.dumps(line, ensure_ascii=False))
    return lines


def _sampling(suite: Suite) -> dict[str, Any]:
    sampling = suite.sampling
    return {"temperature": sampling.temperature, "max_gen_toks": sampling.max_tokens}
