"""A stage is made again if a prompt template that it shows has changed."""

from types import SimpleNamespace

import pytest

from cai.config import RunConfig
from cai.constitution import load_constitution
from cai.pipeline import provenance

CONFIG = RunConfig.model_validate(
    {"constitution": "harmless", "prompts": {"red_team": "a.jsonl", "benign": "b.jsonl"}}
)


def origin_of(constitution, *, uses_constitution):
    run = SimpleNamespace(config=CONFIG, constitution=constitution, output_digest=lambda name: name)
    stage = SimpleNamespace(
        code=1,
        sections=("revise",),
        inputs=("sample",),
        reads=lambda config: (),
        uses_constitution=lambda config: uses_constitution,
    )
    return provenance.origin(run, stage)


@pytest.mark.parametrize("uses_constitution", [True, False])
def test_origin_notices_changed_templates(monkeypatch, uses_constitution):
    shipped = load_constitution("harmless")
    before = origin_of(shipped, uses_constitution=uses_constitution)
    own = shipped.model_copy(update={"templates": {"revise": "{{ text }}"}})
    now = origin_of(own, uses_constitution=uses_constitution)
    assert bool(provenance.changes(before, now)) is uses_constitution
    monkeypatch.setattr(provenance, "combined_hash", lambda: "of another version")
    now = origin_of(shipped, uses_constitution=uses_constitution)
    assert bool(provenance.changes(before, now)) is uses_constitution
