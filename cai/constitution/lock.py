"""``constitution.lock.yaml``: the constitution of a run, frozen with every text and hash, enough to repeat it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cai import templates
from cai.constitution.schema import Constitution
from cai.documents import load, validated
from cai.errors import InputError, Problem
from cai.files import write_text


def write_lock(constitution: Constitution, path: Path) -> None:
    """Write the lock file, atomically."""
    content: dict[str, Any] = {
        "hash": constitution.hash,
        "constitution": constitution.model_dump(mode="json"),
        "principle_hashes": {
            name: principle.hash for name, principle in sorted(constitution.principles.items())
        },
        "template_hashes": {name: templates.template_hash(name) for name in templates.NAMES},
    }
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))


def read_lock(path: Path) -> Constitution:
    """The constitution that a lock file holds.

    Raises:
        InputError: if it holds none, or one that this version cannot read.
    """
    document = load(path)
    if not isinstance(document.value, dict) or "constitution" not in document.value:
        raise InputError([Problem(str(path), "is not the lock file of a constitution")])
    return validated(Constitution, document, ("constitution",))
