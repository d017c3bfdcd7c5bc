"""Packages that a file needs and that are not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from cai.config import ParsedConfig, RunConfig, TrainingConfig
from cai.errors import Problem

AnyParsed = ParsedConfig[RunConfig] | ParsedConfig[TrainingConfig]
TRACKER_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX")}
"""Packages of which a tracker needs one; the others have the name of their package."""


def missing_packages(parsed: AnyParsed) -> Iterator[Problem]:
    """Find packages that training needs and that are not installed.

    Args:
        parsed: The file.

    Yields:
        A problem for each of them.
    """
    config = parsed.config
    if config is None:
        return
    if config.training.lora_rank is not None and not is_installed("peft"):
        where = parsed.document.where(("training", "lora_rank"))
        text = 'training.lora_rank: adapters need the peft package: pip install "cai[lora]"'
        yield Problem(where, text)
    for i, tracker in enumerate(config.trackers):
        packages = TRACKER_PACKAGES.get(tracker, (tracker,))
        if not any(is_installed(package) for package in packages):
            text = f"trackers: {tracker} is not installed: pip install {packages[0]}"
            yield Problem(parsed.document.where(("trackers", i)), text)


def is_installed(package: str) -> bool:
    """Return whether a package can be imported.

    Args:
        package: The name that it is imported by.
    """
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # imported without a spec
        return False
