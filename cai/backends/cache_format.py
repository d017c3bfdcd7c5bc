"""The format of the response cache: the table, the key of a request, and the JSON of a response."""

from __future__ import annotations

import json
from typing import Any

from cai.backends.protocol import (
    Completion,
    GenerateRequest,
    OptionLogprobs,
    Request,
    Response,
    clean_response,
)
from cai.keys import digest

FORMAT = 2
"""Version of the file; other versions are refused."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY, stage TEXT NOT NULL, kind TEXT NOT NULL, response TEXT NOT NULL,
    tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL
) WITHOUT ROWID;
"""


def cache_key(fingerprint: str, rendered: str, request: Request) -> str:
    """Return the key of a request: a digest of all that its response depends on.

    Args:
        fingerprint: Identifies what the model computes.
        rendered: The exact text that the model reads.
        request: The request.

    Returns:
        40 hexadecimal digits.
    """
    if isinstance(request, GenerateRequest):
        kind = "generate"
        # greedy decoding has no randomness, so the seed does not matter
        seed = None if request.temperature == 0 else request.seed
        values: dict[str, Any] = {
            "seed": seed,
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
        }
    else:
        kind = "loglikelihood"
        values = {"options": request.options}
    if request.answer_prefix:  # without one the key is that of older versions
        values["answer_prefix"] = request.answer_prefix
    return digest([fingerprint, rendered, kind, values], 40)


def encode(response: Response) -> tuple[str, str]:
    """Return the kind of a response and its JSON text."""
    kind = "option_logprobs" if isinstance(response, OptionLogprobs) else "completion"
    return kind, json.dumps(vars(response), ensure_ascii=True)


def decode(kind: str, text: str) -> Response:
    """Return a response from its kind and its JSON text."""
    values = json.loads(text)
    if kind == "option_logprobs":
        return OptionLogprobs(**values | {"logprobs": tuple(values["logprobs"])})
    return clean_response(Completion(**values))
