"""What identifies a model: the content of its files. Needs no torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from cai import shipped
from cai.files import sha256
from cai.keys import digest
from cai.models.adapters import base_of
from cai.models.gguf import content_hash, is_gguf
from cai.models.names import REFERENCE, split_label

SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""Files of a model folder that its answers depend on."""


def fingerprint(name: str) -> str:
    """A digest of a model's weights, tokenizer and config; of a hub model its name.

    Cached responses are keyed on this, so a checkpoint that was trained again is another model.

    Args:
        name: ``reference``, a model folder, a GGUF file or a hub id.
    """
    model, label = split_label(name)
    if label:
        return f"{fingerprint(model)}#{label}"
    if is_gguf(name):
        return f"gguf:{content_hash(name)}"
    folder = shipped.reference_model() if name == REFERENCE else Path(name)
    if not folder.is_dir():
        return f"hub:{name}"
    digests = []
    for path in sorted(folder.iterdir()):
        if path.suffix in SUFFIXES and path.name != "manifest.json":
            status = path.stat()
            digests.append((path.name, _file_digest(str(path), status.st_mtime, status.st_size)))
    base = base_of(str(folder))
    if base is not None:
        return f"local:{digest([*digests, fingerprint(base)])}"
    return f"local:{digest(digests)}"


@cache
def _file_digest(path: str, modified: float, size: int) -> str:
    del modified, size  # part of the cache key only
    return sha256(Path(path))
