"""What a model's name stands for: a model in a package, a folder, a file, a hub id, a server ...

Nothing here needs torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cai.config.servers import Servers, is_named_server
from cai.errors import InputError, Problem, did_you_mean
from cai.models.gguf import SMOLLM2, SUFFIX, is_gguf

REFERENCE = "reference"
"""Name of the embedded reference model."""
SHIPPED = (REFERENCE, SMOLLM2)
"""Names of models that packages carry."""
HUB_SECONDS = 8.0
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FUNCTION = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")
_LONGEST_HUB_ID = 96


def is_server(name: str, servers: Servers | None = None) -> bool:
    """Tell whether a name is that of a server: a URL, well-formed or not, or ``provider#model``.

    Args:
        name: The name.
        servers: The servers of the run file, which may be named too.
    """
    return "://" in name or is_named_server(name, servers)


def is_function(name: str) -> bool:
    """Tell whether a name is a function that makes a backend: ``package.module:function``."""
    return bool(_FUNCTION.fullmatch(name))


def split_label(name: str) -> tuple[str, str]:
    """Split ``name#label``, a reward model and the one of its labels that is the score.

    Returns:
        The model's name, and the label; empty if none is named.
    """
    model, _, label = name.partition("#")
    is_address = ":" in model  # of a server, without its scheme
    return (name, "") if is_address else (model, label)


def find_model(name: str, base: Path | None = None, servers: Servers | None = None) -> str:
    """Find the folder or hub id that a model's name stands for.

    Names of servers, functions and models in packages are returned unchanged.

    A folder is searched for in ``base``, then in the working folder; anything else is a hub id.

    Args:
        name: The name, as a run file or an option gives it.
        base: The folder of the run file, if there is one.
        servers: The servers of the run file.

    Raises:
        InputError: If no such folder exists and the name cannot be a hub id. It lists the places
            that were searched.
    """
    if name in SHIPPED or is_server(name, servers):
        return name
    model, label = split_label(name)
    if label:
        return f"{find_model(model, base)}#{label}"
    places = _places(name, base)
    if folder := next((place for place in places if place.is_dir()), None):
        _refuse_folder_of_gguf(folder)
        return str(folder)
    if is_function(name):
        return name
    if file := next((place for place in places if place.is_file()), None):
        if is_gguf(name):
            return str(file)
        message = f"{file} is a file; a model is a folder, a GGUF file or a hub id"
        raise InputError([Problem(name, message)])
    if is_gguf(name) or not can_be_hub_id(name):
        raise InputError([Problem(name, _no_folder(places))])
    return name


def _refuse_folder_of_gguf(folder: Path) -> None:
    """Tell a user who names a folder with GGUF files to name one of the files."""
    files = sorted(file.name for file in folder.glob(f"*{SUFFIX}"))
    if files and not any(folder.glob("*config.json")):
        message = f"holds {', '.join(files)}; name the file: {folder / files[0]}"
        raise InputError([Problem(str(folder), message)])


def can_be_hub_id(name: str) -> bool:
    """Tell whether a name has the form ``organization/model`` or ``model``."""
    odd = ".." in name or "--" in name or len(name) > _LONGEST_HUB_ID
    return bool(_HUB_ID.fullmatch(name)) and not odd


def is_hub_id(name: str, base: Path | None = None) -> bool:
    """Tell whether a name will be looked up on the hub, because nothing local has it."""
    name, _ = (name, "") if is_server(name) else split_label(name)
    here = name in SHIPPED or is_server(name) or is_function(name) or is_gguf(name)
    return not here and not Path(find_model(name, base)).is_dir()


def check_available(name: str, base: Path | None = None) -> None:
    """Ask the hub, once, for a model that is neither in a folder here nor in the hub's local cache.

    The libraries that open models would keep asking for almost a minute.

    Raises:
        InputError: If the name is not a model folder and the hub has no such model or cannot be
            reached.
    """
    if is_hub_id(name, base) and (problem := _hub_problem(name)):
        hint = did_you_mean(name, SHIPPED)
        raise InputError([Problem(name, f"{_no_folder(_places(name, base))}; {problem}{hint}")])


def _hub_problem(name: str) -> str:
    """Say why the hub does not provide a model; empty if it does, or if its cache has it."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    try:
        if huggingface_hub.try_to_load_from_cache(name, "config.json") is not None:
            return ""
        if huggingface_hub.is_offline_mode():
            return "HF_HUB_OFFLINE is set and the hub's cache does not have it"
        url = huggingface_hub.hf_hub_url(name, "config.json")
        huggingface_hub.get_hf_file_metadata(url, timeout=HUB_SECONDS)
    except RepositoryNotFoundError:
        return "the hub has no such model, or it is private"
    except EntryNotFoundError:
        return "the hub's repository of this name is not a model: it has no config.json"
    except Exception as error:  # noqa: BLE001  (of the HTTP library, which differs between releases)
        return f"the hub cannot be reached ({error}); without a network, name a folder"
    return ""


def _places(name: str, base: Path | None) -> list[Path]:
    path = Path(name)
    return list(dict.fromkeys([base / path, path] if base is not None else [path]))


def _no_folder(places: Sequence[Path]) -> str:
    return f"there is no folder {' or '.join(map(str, places))}"
