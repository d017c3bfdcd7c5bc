"""Scripted servers that answer and refuse as those of providers are reported to do.

Each is written after public documentation or threads, which docs/reference/servers.md lists.
"""

import json
from collections import Counter
from dataclasses import dataclass, field

from fault_server import FaultServer

LONG, BANNED = "overlong", "forbidden"
"""A prompt with the first word does not fit; one with the second is not allowed."""


def openai_error(message, code=None, param=None, kind="invalid_request_error"):
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def pydantic_error(name):
    detail = {"type": "extra_forbidden", "loc": ["body", name], "input": 1}
    return {"detail": [detail | {"msg": "Extra inputs are not permitted"}]}


@dataclass(frozen=True)
class Provider:
    """What a provider refuses, by field: the status and the body of its refusal.

    Attributes:
        refuses: For each field that it does not take, what it answers.
        overflow: What it answers to a prompt that does not fit.
        banned: What it answers to a prompt that is not allowed; None if it has no filter.
        change: Changes the body of an answer.
        both: What it answers if both temperature and top_p are sent.
        temperatures: The temperatures that it takes; None for all.
        ignores: Fields that it takes and ignores.
    """

    overflow: tuple
    banned: tuple | None = None
    refuses: dict = field(default_factory=dict)
    change: object = staticmethod(lambda body: body)
    both: tuple | None = None
    temperatures: tuple | None = None
    top_logprobs: int = 20
    ignores: tuple = ()


def unsupported(name, instead=""):
    tail = f" Use '{instead}' instead." if instead else ""
    message = f"Unsupported parameter: '{name}' is not supported with this model.{tail}"
    return 400, openai_error(message, "unsupported_parameter", name)


def parts(body):
    """The answer as parts, thoughts first, as Mistral sends it."""
    for choice in body["choices"]:
        text = choice["message"]["content"]
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
        choice["message"]["content"] = [thought, {"type": "text", "text": text}]
    return body


def upper(body):
    for choice in body["choices"]:
        choice["finish_reason"] = choice["finish_reason"].upper()
    return body | {"usage": None}


def odd_nulls(body):
    for choice in body["choices"]:
        choice["message"] |= {"refusal": None, "tool_calls": None, "reasoning": None}
        choice |= {"native_finish_reason": "stop", "logprobs": choice.get("logprobs")}
    return body | {"system_fingerprint": None, "usage": {"prompt_tokens": None}}


UNKNOWN = "Unrecognized request argument supplied: chat_template_kwargs"
GEMINI_NAME = 'Invalid JSON payload received. Unknown name "{}": Cannot find field.'
AZURE_FILTER = {
    "message": "The response was filtered due to the prompt triggering the management policy.",
    "type": None,
    "param": "prompt",
    "code": "content_filter",
    "status": 400,
    "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}},
}


def gemini(name):
    message = GEMINI_NAME.format(name)
    violation = {"fieldViolations": [{"description": message}]}
    error = {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": [violation]}
    return 400, [{"error": error}]


PROVIDERS = {
    "openai": Provider(
        refuses={
            "max_tokens": unsupported("max_tokens", "max_completion_tokens"),
            "logprobs": (
                403,
                openai_error("You are not allowed to request logprobs from this model"),
            ),
            "chat_template_kwargs": (400, openai_error(UNKNOWN)),
        },
        temperatures=(1.0,),
        overflow=(
            400,
            openai_error(
                "This model's maximum context length is 8192 tokens. However, your messages "
                "resulted in 9000 tokens.",
                "context_length_exceeded",
                "messages",
            ),
        ),
        banned=(
            400,
            openai_error("Invalid prompt: your prompt was flagged", "invalid_prompt"),
        ),
    ),
    "azure": Provider(
        refuses={"chat_template_kwargs": (400, openai_error(UNKNOWN))},
        overflow=(400, openai_error("too many", "context_length_exceeded")),
        banned=(400, {"error": AZURE_FILTER}),
    ),
    "anthropic": Provider(
        refuses={"chat_template_kwargs": (400, pydantic_error("chat_template_kwargs"))},
        ignores=("logprobs", "n", "seed"),
        both=(
            400,
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "`temperature` and `top_p` cannot both be specified for this "
                    "model. Please use only one.",
                },
            },
        ),
        overflow=(
            400,
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "prompt is too long: 208310 tokens > 200000 maximum",
                },
            },
        ),
    ),
    "mistral": Provider(
        refuses={
            name: (422, pydantic_error(name))
            for name in ("chat_template_kwargs", "seed", "logprobs", "top_logprobs")
        },
        change=parts,
        overflow=(
            400,
            {
                "object": "error",
                "message": "Prompt contains 40000 tokens, too large for model with 32768 maximum "
                "context length",
                "type": "invalid_request_error",
                "code": "3051",
            },
        ),
    ),
    "together": Provider(
        refuses={
            "logprobs": (
                400,
                openai_error("20 is greater than the maximum of 1 - 'logprobs'", None, "logprobs"),
            )
        },
        overflow=(
            422,
            openai_error(
                "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. "
                "Given: 80125 `inputs` tokens and 512 `max_new_tokens`",
                None,
                "max_tokens",
            ),
        ),
    ),
    "groq": Provider(
        refuses={
            "logprobs": (400, openai_error("`logprobs` is not supported with this model")),
            "n": (400, openai_error("'n' : number must be at most 1")),
            "chat_template_kwargs": (
                400,
                openai_error("property 'chat_template_kwargs' is unsupported"),
            ),
        },
        overflow=(
            400,
            openai_error(
                "Please reduce the length of the messages or completion.",
                "context_length_exceeded",
                "messages",
            ),
        ),
    ),
    "openrouter": Provider(
        change=odd_nulls,
        ignores=("logprobs", "n"),
        overflow=(
            400,
            {
                "error": {
                    "message": "This endpoint's maximum context length is 8192 tokens. However, "
                    "you requested about 9000 tokens (8500 of text input).",
                    "code": 400,
                }
            },
        ),
        banned=(
            403,
            {
                "error": {
                    "code": 403,
                    "message": "Your chosen model requires moderation and your input was flagged",
                    "metadata": {"reasons": ["violence"], "flagged_input": BANNED},
                }
            },
        ),
    ),
    "gemini": Provider(
        refuses={name: gemini(name) for name in ("chat_template_kwargs", "seed", "logprobs", "n")},
        change=upper,
        overflow=(
            400,
            [{"error": {"code": 400, "message": "The input token count exceeds the maximum"}}],
        ),
    ),
    "xai": Provider(
        refuses={"stop": unsupported("stop")},
        overflow=(400, {"code": "bad", "error": "This model's maximum prompt length is 131072"}),
        banned=(
            403,
            {
                "code": "The caller does not have permission to execute the specified operation",
                "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO",
            },
        ),
    ),
    "deepseek": Provider(
        ignores=("seed", "n"),
        overflow=(400, openai_error("maximum context length is 65536 tokens")),
        banned=(400, openai_error("Content Exists Risk", "invalid_request_error")),
    ),
    "dashscope": Provider(
        overflow=(400, openai_error("Range of input length should be [1, 30720]")),
        banned=(
            400,
            {
                "code": "DataInspectionFailed",
                "message": "Input data may contain inappropriate content.",
            },
        ),
    ),
    "vllm": Provider(
        refuses={},
        top_logprobs=5,
        overflow=(
            400,
            {
                "object": "error",
                "message": "This model's maximum context length is 4096 tokens. However, you "
                "requested 5000 tokens (4500 in the messages, 500 in the completion).",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
        ),
    ),
    "sglang": Provider(
        overflow=(
            400,
            {
                "object": "error",
                "message": "The input (61709 tokens) is longer than the model's context length "
                "(40960 tokens).",
                "type": "BadRequestError",
                "code": 400,
            },
        ),
    ),
    "tgi": Provider(
        refuses={"n": (422, {"error": "'n' must be 1", "error_type": "validation"})},
        overflow=(
            422,
            {
                "error": "Input validation error: `inputs` must have less than 4096 tokens. "
                "Given: 4545",
                "error_type": "validation",
            },
        ),
    ),
    "llamacpp": Provider(
        ignores=("n",),
        overflow=(
            500,
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size, try increasing it",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 1407,
                    "n_ctx": 256,
                }
            },
        ),
    ),
    "ollama": Provider(
        ignores=("n", "logprobs", "chat_template_kwargs"),
        overflow=(500, {"error": {"message": "input length exceeds context length", "type": "x"}}),
    ),
    "lmstudio": Provider(
        ignores=("n", "logprobs"),
        overflow=(
            200,
            {
                "error": "Trying to keep the first 111490 tokens when context the overflows. "
                "However, the model is loaded with context length of only 32768 tokens"
            },
        ),
    ),
    "litellm": Provider(
        overflow=(
            400,
            openai_error(
                "litellm.ContextWindowExceededError: AnthropicException - "
                + json.dumps({"error": {"message": "prompt is too long: 5 tokens > 4 maximum"}}),
                "400",
            ),
        ),
        banned=(
            400,
            openai_error(
                "litellm.BadRequestError: litellm.ContentPolicyViolationError: AzureException - "
                "The response was filtered",
                "400",
            )
            | {"provider_specific_fields": {"innererror": {"code": "content_filter"}}},
        ),
    ),
}


class ScriptedProvider(FaultServer):
    """A server that refuses what a provider refuses, and answers as it does."""

    def __init__(self, name):
        self.provider = PROVIDERS[name]
        self.refused = Counter()
        super().__init__(self._respond)

    def body(self, fields, number):
        """An answer that depends on the seed, or votes for A, or the probabilities of A and B."""
        is_vote = "n" in fields or fields.get("max_tokens", 99) <= 8
        text = "A" if is_vote else f"Wash it with water {fields.get('seed', number)}."
        message = {"role": "assistant", "content": text}
        choices = [{"message": dict(message), "finish_reason": "stop"} for _ in self._count(fields)]
        if fields.get("logprobs"):
            top = [{"token": "A", "logprob": -0.2}, {"token": "B", "logprob": -2.0}]
            choices[0]["logprobs"] = {"content": [top[0] | {"top_logprobs": top}]}
        return {"model": "m", "choices": choices, "usage": {"prompt_tokens": 9}}

    def _count(self, fields):
        return range(fields.get("n", 1))

    def _respond(self, number, fields):
        provider = self.provider
        text = " ".join(message["content"] for message in fields["messages"])
        for name, (status, body) in provider.refuses.items():
            if name in fields:
                self.refused[name] += 1
                return status, {}, body
        if provider.both and {"temperature", "top_p"} <= set(fields):
            return provider.both[0], {}, provider.both[1]
        temperature = fields.get("temperature", 1.0)
        if provider.temperatures and temperature not in provider.temperatures:
            message = f"Unsupported value: 'temperature' does not support {temperature}."
            return 400, {}, openai_error(message, "unsupported_value", "temperature")
        if fields.get("top_logprobs", 0) > provider.top_logprobs:
            message = f"Requested sample logprobs of 20, greater than {provider.top_logprobs}"
            return 400, {}, openai_error(message, param="top_logprobs")
        if LONG in text:
            return provider.overflow[0], {}, provider.overflow[1]
        if BANNED in text and provider.banned:
            return provider.banned[0], {}, provider.banned[1]
        taken = {name: value for name, value in fields.items() if name not in provider.ignores}
        return 200, {}, provider.change(self.body(taken, number))
