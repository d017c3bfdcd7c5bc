"""The models that the pages ask: each is opened once, and few of them are held in memory."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cai.backends import open_backend
from cai.backends.cached_model import CachedModel
from cai.backends.protocol import Backend
from cai.config.servers import without_batches
from cai.functions import look_in
from cai.memory import give_back
from cai.models.names import is_server
from cai.pipeline.policies import finished_policies
from cai.pipeline.run import CONFIG, Run
from cai.studio.library import stamp

MAX_LOADED = 2
"""Models of this process that are held in memory; the others are loaded again when asked."""


class Speaker(NamedTuple):
    """A model of a run that can be talked to.

    Attributes:
        model: Its folder, hub id, server or function.
        chat_format: Its chat format; empty for its own.
        enable_thinking: Whether it may reason before it answers.
    """

    model: str
    chat_format: str = ""
    enable_thinking: bool = False


def speakers(run: Run) -> dict[str, Speaker]:
    """The models of a run that are there: its policies, then its critic and its judges.

    Args:
        run: The run.

    Returns:
        The models by name; a critic or judge that is one of those before it is left out.
    """
    found = {
        name: Speaker(model, run.chat_format) for name, model in finished_policies(run).items()
    }
    config = run.config
    judges = [(f"judge_{i}", name) for i, name in enumerate(config.judge_models, start=1)]
    if len(judges) == 1:
        judges = [("judge", judges[0][1])]
    for name, model in [("critic", config.critic_model), *judges]:
        if run.model(model) not in [speaker.model for speaker in found.values()]:
            found[name] = feedback_model(run, model)
    return found


def feedback_model(run: Run, name: str) -> Speaker:
    """A critic or judge of a run.

    Args:
        run: The run.
        name: The model as the settings name it.
    """
    return Speaker(run.model(name), "", run.config.models.enable_thinking)


class Models:
    """Opens models and keeps them open. Only one thread at a time may use it."""

    def __init__(self) -> None:
        self._opened: dict[tuple[object, ...], Backend] = {}  # the one that was asked last is last

    def open(self, run: Run, speaker: Speaker, stage: str) -> CachedModel:
        """Open a model by way of the cache of a run.

        Args:
            run: The run, with its response cache open.
            speaker: The model.
            stage: What its requests are counted for.

        Raises:
            InputError: If there is no such model, or it cannot be read.
        """
        look_in(run.base)
        servers = without_batches(run.config.servers)  # someone waits for the answers
        tokens = run.config.models.reasoning_tokens
        is_remote = is_server(speaker.model, servers)
        file = run.folder / CONFIG if is_remote else Path(speaker.model) / "config.json"
        # a checkpoint that was trained again, or a server with new settings, is another model
        key = (speaker, tokens, file, stamp(file))
        backend = self._opened.pop(key, None) or open_backend(
            speaker.model,
            speaker.chat_format,
            enable_thinking=speaker.enable_thinking,
            reasoning_tokens=tokens,
            servers=servers,
        )
        self._opened[key] = backend
        self._release_others()
        return run.cache.cached_model(backend, stage)

    def _release_others(self) -> None:
        """Let all models of this process go but those that were asked last."""
        local = [backend for backend in self._opened.values() if hasattr(backend, "release")]
        for backend in local[:-MAX_LOADED]:
            backend.release()
        if len(local) > MAX_LOADED:
            give_back()
