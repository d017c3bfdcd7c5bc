"""Which model a server has: what it reports, and what it answers to one question."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from cai.backends.capabilities import PROBE_ATTEMPTS, Capabilities
from cai.backends.protocol import Completion, GenerateRequest
from cai.cleaning import excerpt
from cai.keys import digest
from cai.records import Message

if TYPE_CHECKING:
    from cai.backends.endpoint import Endpoint

_QUESTION = GenerateRequest(
    (Message(role="user", content="Write two words."),), seed=0, temperature=0.0, max_tokens=12
)
_SIZES = ("n_params", "n_vocab", "n_embd", "size")
"""What llama.cpp reports of the file that it serves."""


@dataclass(frozen=True)
class Identity:
    """What tells a served model from another one of the same name.

    Where a server may move, such as its URL or the folder of the weights, is no part of it.

    Attributes:
        reported: The model's name in the server's answers.
        root: Name of the folder or file of the weights, as the list of models has it.
        sizes: Sizes of the model, as the list of models has them.
        prompt_tokens: Length of one question, which depends on tokenizer and chat template.
        text: The likeliest answer to it; empty if the server gives another one each time.
    """

    reported: str = ""
    root: str = ""
    sizes: str = ""
    prompt_tokens: int = 0
    text: str = ""

    @property
    def digest(self) -> str:
        """Digest of all that is known."""
        return digest(asdict(self), 12)

    def difference(self, other: Identity) -> str:
        """Return in what two identities differ, of what is known of both; empty if they agree.

        Args:
            other: The identity of another server.
        """
        for field in fields(self):
            own, its = getattr(self, field.name), getattr(other, field.name)
            if own and its and own != its:
                name = field.name.replace("_", " ")
                return f"{name} {excerpt(str(own), 60)!r} and {excerpt(str(its), 60)!r}"
        return ""


async def identify(endpoint: Endpoint, capabilities: Capabilities) -> Identity:
    """Find out which model a server has.

    Args:
        endpoint: The server.
        capabilities: What it can do.
    """
    listed = await endpoint.list_models()
    entry = next((item for item in listed if item.get("id") == endpoint.model_name), {})
    answers = [await endpoint.send(_QUESTION, capabilities, PROBE_ATTEMPTS) for _ in range(2)]
    first, second = answers
    assert isinstance(first, Completion)
    return Identity(
        reported=_last_part(endpoint.reported_name),
        root=_last_part(entry.get("root")),
        sizes=_sizes(entry.get("meta")),
        prompt_tokens=first.tokens_in,
        text=first.text if first == second and first.finish_reason != "failed" else "",
    )


def models_of(body: bytes) -> list[dict[str, Any]]:
    """Return the entries of a server's list of models; none if it is no such list.

    Args:
        body: What the server sent.
    """
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(body)
        data = value.get("data") if isinstance(value, dict) else None
        items = data if isinstance(data, list) else []
        return [item for item in items if isinstance(item, dict)]
    return []


def _last_part(path: object) -> str:
    return PurePosixPath(path).name if isinstance(path, str) else ""


def _sizes(meta: object) -> str:
    if not isinstance(meta, dict):
        return ""
    return ", ".join(f"{name} {meta[name]}" for name in _SIZES if name in meta)
