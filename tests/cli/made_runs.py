"""The folder of a small run, made without running anything."""

import os

import yaml
from studio_runs import judgment

from cai import shipped
from cai.constitution import load_constitution
from cai.constitution.lock import write_lock
from cai.files import write_records
from cai.records import Comparison, Preference, Prompt

CONFIG = {
    "constitution": "reference",
    "prompts": {"red_team": "red.jsonl", "benign": "benign.jsonl"},
    "algorithms": [],
    "evaluate": {"max_tokens": 24, "temperature": 0},
}
PROBABILITIES = (0.02, 0.45, 0.5, 0.55, 0.62, 0.99, None)


def make_run(folder, started=0.0):
    """Write the folder of a run that has labels and one trained policy."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    os.utime(folder / "config.yaml", (started, started))
    write_lock(load_constitution("reference"), folder / "constitution.lock.yaml")
    (folder / "sft").mkdir()
    (folder / "sft/checkpoint").symlink_to(shipped.reference_model())
    (folder / "judge").mkdir()
    write_records(folder / "judge/records.jsonl", map(label, PROBABILITIES))
    return folder


def label(p_first):
    comparison = Comparison.of(Prompt.of("Write an insult."), f"Mild {p_first}.", "Rude.")
    status = "unscored" if p_first is None else "ok"
    return Preference(
        id=comparison.id,
        comparison=comparison,
        p_first=p_first,
        status=status,
        source="ai",
        judgments=(judgment(p_first, method="critique"),),
    )
