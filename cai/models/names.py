"""What the name of a model means, told without torch: the reference model, a folder, a hub id, a server, a function."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cai.errors import InputError, Problem, did_you_mean

REFERENCE = "reference"
"""Stands for the embedded reference model."""
HUB_SECONDS = 8.0
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FUNCTION = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")
_LONGEST_HUB_ID = 96


def is_server(name: str) -> bool:
    """Whether a name is the URL of a server, right or wrong."""
    return "://" in name


def is_function(name: str) -> bool:
    """Whether a name is a function that makes a backend: ``package.module:function``."""
    return bool(_FUNCTION.fullmatch(name))


def find_model(name: str, base: Path | None = None) -> str:
    """The folder or hub id that a model's name means; names of servers and functions stay as they are.

    A folder is looked for in ``base``, then in the working folder; what is in neither is a hub id.

    Args:
        name: The name, as a run file or an option gives it.
        base: The folder of the run file, if there is one.

    Raises:
        InputError: if no such folder exists and the name cannot be a hub id. It names the places
            that were looked at.
    """
    if name == REFERENCE or is_server(name):
        return name
    places = _places(name, base)
    if found := next((place for place in places if place.is_dir()), None):
        return str(found)
    if is_function(name):
        return name
    if file := next((place for place in places if place.is_file()), None):
        raise InputError([Problem(name, f"{file} is a file; a model is a folder or a hub id")])
    if not can_be_hub_id(name):
        raise InputError([Problem(name, _no_folder(places))])
    return name


def can_be_hub_id(name: str) -> bool:
    """Whether a name has the form ``organisation/model`` or ``model``."""
    odd = ".." in name or "--" in name or len(name) > _LONGEST_HUB_ID
    return bool(_HUB_ID.fullmatch(name)) and not odd


def is_hub_id(name: str, base: Path | None = None) -> bool:
    """Whether a name will be looked up on the hub, because it is nothing that is here."""
    here = name == REFERENCE or is_server(name) or is_function(name)
    return not here and not Path(find_model(name, base)).is_dir()


def check_available(name: str, base: Path | None = None) -> None:
    """Ask the hub, once, for a model that is neither in a folder here nor in the hub's local cache.

    The libraries that open models would keep asking for most of a minute.

    Raises:
        InputError: if the name is no model folder and the hub has no such model or cannot be asked.
    """
    if is_hub_id(name, base) and (problem := _hub_problem(name)):
        hint = did_you_mean(name, [REFERENCE])
        raise InputError([Problem(name, f"{_no_folder(_places(name, base))}; {problem}{hint}")])


def _hub_problem(name: str) -> str:
    """Why the hub does not give a model; empty where it does, or where its cache holds it."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    try:
        if huggingface_hub.try_to_load_from_cache(name, "config.json") is not None:
            return ""
        if huggingface_hub.is_offline_mode():
            return "HF_HUB_OFFLINE is set and the hub's cache does not hold it"
        url = huggingface_hub.hf_hub_url(name, "config.json")
        huggingface_hub.get_hf_file_metadata(url, timeout=HUB_SECONDS)
    except RepositoryNotFoundError:
        return "the hub has no such model, or shows it to members only"
    except EntryNotFoundError:
        return "what the hub has under this name is not a model: it has no config.json"
    except Exception as error:  # of the HTTP library, which another release of the client changes
        return f"the hub cannot be asked for it ({error}); without a network, name a folder"
    return ""


def _places(name: str, base: Path | None) -> list[Path]:
    path = Path(name)
    return list(dict.fromkeys([base / path, path] if base is not None else [path]))


def _no_folder(places: Sequence[Path]) -> str:
    return f"there is no folder {' or '.join(map(str, places))}"
