"""Batches that were submitted, on disk beside the cache, until their responses are in the cache.

A run that was killed finds them there, and does not pay for the same requests twice.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path

from cai.files import read_object, write_json
from cai.keys import digest


@dataclass(frozen=True)
class Submitted:
    """A batch.

    Attributes:
        url: Base URL of its server.
        file: Id of the uploaded file of requests.
        batch: Id of the batch; empty if it is not known whether there is one.
        ids: Ids of the requests in the file.
    """

    url: str
    file: str
    batch: str
    ids: tuple[str, ...]


class BatchLog:
    """The batches of one cache.

    Args:
        folder: Where they are kept; None: only in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._in_memory: dict[str, Submitted] = {}

    def write(self, batch: Submitted) -> None:
        """Keep a batch, in place of what is known of the same file.

        Raises:
            LimitReached: If it cannot be written.
        """
        self._in_memory[batch.file] = batch
        if self._folder is not None:
            write_json(self._path(self._folder, batch), asdict(batch))

    def remove(self, batch: Submitted) -> None:
        """Forget a batch."""
        self._in_memory.pop(batch.file, None)
        if self._folder is not None:
            self._path(self._folder, batch).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # there are others in it
                self._folder.rmdir()

    def read(self, url: str) -> list[Submitted]:
        """Return the batches of a server; a record that cannot be read counts as absent.

        Args:
            url: Its base URL.
        """
        found = dict(self._in_memory)
        for path in sorted(self._folder.glob("*.json")) if self._folder is not None else ():
            values = read_object(path) or {}
            server, file, name = (values.get(key) for key in ("url", "file", "batch"))
            ids = values.get("ids")
            is_whole = all(isinstance(text, str) for text in (server, file, name))
            if is_whole and isinstance(ids, list):
                batch = Submitted(str(server), str(file), str(name), tuple(map(str, ids)))
                found.setdefault(batch.file, batch)
        return [batch for batch in found.values() if batch.url == url]

    @staticmethod
    def _path(folder: Path, batch: Submitted) -> Path:
        return folder / f"{digest([batch.url, batch.file], 16)}.json"
