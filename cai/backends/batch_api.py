"""The batch APIs of servers: how they differ, and what they say of a batch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from cai.cleaning import excerpt

BatchStatus = Literal["running", "done", "failed", "expired", "cancelled"]
"""What a batch is doing, or how it ended."""


@dataclass(frozen=True)
class BatchApi:
    """The batch API of a server.

    Attributes:
        upload: Where a file is uploaded.
        fields: What is said of the file.
        path: Where batches are created and looked up.
        input: Name of the input file in a batch.
        output: Name of the file of responses.
        errors: Name of the file of requests without a response.
        price: Price of a request in a batch, as a fraction of the usual one.
    """

    upload: str
    fields: Mapping[str, str]
    path: str
    input: str
    output: str
    errors: str
    price: float

    def order(self, file: str, endpoint: str, model: str) -> dict[str, Any]:
        """Return what creates a batch.

        Args:
            file: Id of the uploaded file.
            endpoint: Path of the requests in it.
            model: The model that they are for.
        """
        if self.input.endswith("s"):  # a list of files, and one model for all of their requests
            return {self.input: [file], "endpoint": endpoint, "model": model}
        return {self.input: file, "endpoint": endpoint, "completion_window": "24h"}

    def state(self, job: Mapping[str, Any]) -> BatchState:
        """Read what a server says of a batch."""
        inner = job.get("job")
        job = inner if isinstance(inner, Mapping) else job
        given = job.get(self.input)
        counts = job.get("request_counts")
        counts = counts if isinstance(counts, Mapping) else job
        names = {
            "completed": ("completed", "completed_requests"),
            "total": ("total", "total_requests"),
        }
        done, total = (
            next((v for key in keys if isinstance(v := counts.get(key), int)), 0)
            for keys in names.values()
        )
        files = [job.get(name) for name in (self.output, self.errors)]
        return BatchState(
            id=str(job.get("id") or ""),
            status=_meaning(str(job.get("status") or "")),
            input_file=str(given[0] if isinstance(given, list) and given else given or ""),
            files=tuple(file for file in files if isinstance(file, str) and file),
            done=done,
            total=total,
            problem=_problem(job.get("errors")),
        )


@dataclass(frozen=True)
class BatchState:
    """What a server says of a batch.

    Attributes:
        id: Its id.
        status: What it is doing, or how it ended.
        input_file: Id of the file of requests.
        files: Ids of the files of responses and of errors, as far as there are any.
        done: Number of requests that have a response.
        total: Number of all requests.
        problem: Why all of it failed.
    """

    id: str
    status: BatchStatus
    input_file: str
    files: tuple[str, ...]
    done: int
    total: int
    problem: str


def api_of(url: str) -> BatchApi:
    """Return the batch API of a server.

    Args:
        url: Its base URL.
    """
    table = _table()
    own = table["hosts"].get(urlsplit(url).hostname or "", {})
    return BatchApi(**(table["default"] | own))


def is_missing(status: int) -> bool:
    """Return whether a status says that a server has no batch API."""
    return status in _table()["missing"]


def _meaning(status: str) -> BatchStatus:
    known: dict[BatchStatus, list[str]] = _table()["statuses"]
    name = status.strip().lower()
    return next((meaning for meaning, names in known.items() if name in names), "running")


def _problem(errors: Any) -> str:
    """The messages of a batch that failed as a whole."""
    data = errors.get("data", errors) if isinstance(errors, Mapping) else errors
    if not data:
        return ""
    items = data if isinstance(data, list) else [data]
    texts = [i["message"] for i in items if isinstance(i, Mapping) and i.get("message")]
    return excerpt("; ".join(map(str, texts)) or json.dumps(data))


@cache
def _table() -> dict[str, Any]:
    path = Path(__file__).with_name("batch_apis.yaml")
    table: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return table
