"""``constitution.lock.yaml``: the constitution of a run with every text and hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cai.constitution.schema import Constitution
from cai.documents import MAX_LOCK_BYTES, load, validated
from cai.errors import InputError, Problem
from cai.files import write_text
from cai.templates import NAMES, Templates, TemplateSet


def write_lock(constitution: Constitution, path: Path) -> None:
    """Write the lock file, atomically.

    Args:
        constitution: The constitution to keep.
        path: The file to write.
    """
    principle_hashes = {name: p.hash for name, p in sorted(constitution.principles.items())}
    content: dict[str, Any] = {
        "hash": constitution.hash,
        "constitution": constitution.model_dump(mode="json"),
        "principle_hashes": principle_hashes,
        "template_hashes": {
            "default": _template_hashes(constitution, "default"),
            "reference": _template_hashes(constitution, "reference"),
        },
    }
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))


def read_lock(path: Path) -> Constitution:
    """Read the constitution of a lock file.

    Args:
        path: The file.

    Raises:
        InputError: if the file is not a lock file, or has fields that this version does not know.
    """
    document = load(path, MAX_LOCK_BYTES)
    if not isinstance(document.value, dict) or "constitution" not in document.value:
        raise InputError([Problem(str(path), "is not the lock file of a constitution")])
    return validated(Constitution, document, ("constitution",))


def _template_hashes(constitution: Constitution, base: TemplateSet) -> dict[str, str]:
    templates = Templates(base, constitution.templates)
    return {name: templates.hash(name) for name in NAMES}
