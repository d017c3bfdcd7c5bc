"""Free memory goes back to the system between stages."""

import sys

import pytest

from cai import memory
from cai.pipeline.run import OpenBackends


def test_memory_goes_back_when_models_are_let_go(monkeypatch) -> None:
    calls = []
    monkeypatch.setattr("cai.pipeline.run.give_back", lambda: calls.append("give back"))
    OpenBackends({}).release()
    assert calls == ["give back"]


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_other_systems_only_collect_garbage(platform: str, monkeypatch) -> None:
    trims = []

    class Library:
        def malloc_trim(self, pad: int) -> None:
            trims.append(pad)

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: Library())
    memory.give_back()
    assert trims == ([0] if platform == "linux" else [])


def test_a_c_library_without_trim_is_no_error(monkeypatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    memory.give_back()
