"""The in-process backend: a transformers model on the CPU or one accelerator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, TypeVar

import torch
from torch.nn import functional as F

from cai.backends.protocol import (
    Completion,
    FinishReason,
    GenerateRequest,
    LoglikelihoodRequest,
    OptionLogprobs,
    Request,
    Response,
)
from cai.models.chat_template.format import ChatFormat
from cai.models.decode import decode
from cai.models.load import (
    LanguageModel,
    context_length,
    default_micro_batch_tokens,
    fingerprint,
    load_language_model,
    load_tokenizer,
)
from cai.models.packing.padding import padding_id
from cai.models.packing.prefix import batches, group_rows, prefix_logits
from cai.models.stopping import stop_tokens

Row = TypeVar("Row")
BATCH_TOKENS = 24_576
"""Prompt and answer tokens of one batch, padding counted."""
BATCH_ROWS = 256


class _Wanted(NamedTuple):
    """An option of a call, to be weighed at the end of a row."""

    request: int
    option: int
    tokens: tuple[int, ...]


class LocalBackend:
    """Answers calls with a model in this process, in batches of like length under a token budget."""

    def __init__(self, name: str, chat_format: str = "", enable_thinking: bool = False) -> None:
        self.name = name
        self.fingerprint = f"{fingerprint(name)}{':' + chat_format if chat_format else ''}{':enable_thinking' if enable_thinking else ''}"
        self._style, self._thinking = chat_format, enable_thinking
        self._loaded: tuple[LanguageModel, ChatFormat] | None = None
        self._tokenizer_format: ChatFormat | None = None

    @property
    def format(self) -> ChatFormat:
        """The chat format; opens the tokenizer, not the model."""
        if self._tokenizer_format is None:
            self._tokenizer_format = ChatFormat(
                load_tokenizer(self.name), self._style, self._thinking
            )
        return self._tokenizer_format

    @property
    def notes(self) -> list[str]:
        """What is done to conversations for the model's chat template."""
        form = self._tokenizer_format
        return (
            [f"{self.name}: {line}" for line in form.traits.notes]
            if form and form.chat_format == "chat"
            else []
        )

    @property
    def language_model(self) -> LanguageModel:
        if self._loaded is None:
            self._loaded = (load_language_model(self.name), self.format)
        return self._loaded[0]

    def render(self, request: Request) -> str:
        return self.format.prompt(request.messages)

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        completing = [
            (i, request)
            for i, request in enumerate(requests)
            if isinstance(request, GenerateRequest)
        ]
        choosing = [
            (i, request)
            for i, request in enumerate(requests)
            if isinstance(request, LoglikelihoodRequest)
        ]
        yield from self._complete(completing)
        yield from self._choose(choosing)

    # -- completing ----------------------------------------------------------------------------------------------------

    def _complete(
        self, requests: list[tuple[int, GenerateRequest]]
    ) -> Iterator[tuple[int, Response]]:
        prompts = {i: self.format.ids(self.render(request)) for i, request in requests}
        for i, request in requests:
            if len(prompts[i]) + request.max_tokens > self._context:
                yield (
                    i,
                    Completion(
                        "",
                        "too_long",
                        len(prompts[i]),
                        0,
                        self._too_long(len(prompts[i]), request.max_tokens),
                    ),
                )
        tokenize_prompts = [
            (i, request)
            for i, request in requests
            if len(prompts[i]) + request.max_tokens <= self._context
        ]
        # rows of one batch share their sampling values
        for sampling in sorted({(c.temperature, c.max_tokens) for _, c in tokenize_prompts}):
            group = sorted(
                (
                    row
                    for row in tokenize_prompts
                    if (row[1].temperature, row[1].max_tokens) == sampling
                ),
                key=lambda row: len(prompts[row[0]]),
            )
            for batch in _batches(group, lambda row: len(prompts[row[0]]) + row[1].max_tokens):
                yield from self._complete_batch(batch, [prompts[i] for i, _ in batch])

    def _complete_batch(
        self, batch: list[tuple[int, GenerateRequest]], prompts: list[list[int]]
    ) -> Iterator[tuple[int, Response]]:
        model, tokenizer = self.language_model
        first = batch[0][1]
        decoded = decode(
            model,
            prompts,
            max_tokens=first.max_tokens,
            temperature=first.temperature,
            seeds=[request.seed for _, request in batch],
            stop_ids=self._stop_ids,
            pad_id=padding_id(tokenizer),
        )
        for (i, _), prompt, row in zip(batch, prompts, decoded, strict=True):
            reasoning, text = self._read(row.tokens[:-1] if row.stopped else row.tokens)
            cut = min(
                (at for stop in self.format.stop if (at := text.find(stop)) >= 0), default=None
            )
            finish_reason: FinishReason = (
                "stop"
                if row.stopped or cut is not None or self.format.chat_format == "plain"
                else "length"
            )
            text = text[:cut] if self.format.chat_format == "plain" else text[:cut].strip()
            yield (
                i,
                Completion(text, finish_reason, len(prompt), len(row.tokens), reasoning=reasoning),
            )

    def _read(self, tokens: list[int]) -> tuple[str, str]:
        """What a model wrote, as (thoughts, answer)."""
        tokenizer = self.format.tokenizer
        if self.format.tags is None:
            return "", str(tokenizer.decode(tokens, skip_special_tokens=True))
        # the tags may be special tokens, which must not vanish before they are seen
        reasoning, answer = self.format.split_thoughts(str(tokenizer.decode(tokens)))
        for token in tokenizer.all_special_tokens:
            reasoning, answer = reasoning.replace(token, ""), answer.replace(token, "")
        return reasoning, answer

    # -- choosing ------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _choose(
        self, requests: list[tuple[int, LoglikelihoodRequest]]
    ) -> Iterator[tuple[int, Response]]:
        """Rows that begin alike (one answer criticised by many principles) are read together from their shared beginning."""
        model, tokenizer = self.language_model
        rows: dict[tuple[int, ...], list[_Wanted]] = {}
        totals: dict[int, list[float | None]] = {}
        lengths: dict[int, int] = {}
        for i, request in requests:
            prompt, options = self.format.options(request.messages, request.options)
            lengths[i], totals[i] = len(prompt), [None] * len(options)
            if len(prompt) + max(map(len, options)) > self._context:
                longest = max(map(len, options))
                yield (
                    i,
                    OptionLogprobs(
                        (0.0,) * len(options),
                        len(prompt),
                        "too_long",
                        reason=self._too_long(len(prompt), longest),
                    ),
                )
                continue
            for number, option in enumerate(options):
                rows.setdefault((*prompt, *option[:-1]), []).append(
                    _Wanted(i, number, tuple(option))
                )
        listed = list(rows)
        # the end of each row, as far as its longest option reaches
        reach = [max(len(wanted.tokens) for wanted in rows[row]) for row in listed]
        for batch in batches(
            group_rows(model, listed, reach), listed, default_micro_batch_tokens(model.device)
        ):
            for row, logits in prefix_logits(
                model, listed, reach, batch, padding_id(tokenizer)
            ).items():
                steps = F.log_softmax(logits.float(), -1)
                for i, number, tokens in rows[listed[row]]:
                    wanted = torch.tensor(tokens, device=steps.device).unsqueeze(1)
                    totals[i][number] = float(steps[-len(tokens) :].gather(1, wanted).sum())
                    found = tuple(total for total in totals[i] if total is not None)
                    if len(found) == len(totals[i]):
                        yield i, OptionLogprobs(found, lengths[i])

    # -- limits --------------------------------------------------------------------------------------------------------

    @property
    def _context(self) -> int:
        return context_length(self.language_model.model)

    def _too_long(self, prompt: int, answer: int) -> str:
        return f"prompt of {prompt} tokens + {answer} for the answer is beyond the model's context of {self._context}"

    @cached_property
    def _stop_ids(self) -> frozenset[int]:
        return stop_tokens(self.name, self.format)


def _batches(rows: Sequence[Row], size_of: Callable[[Row], int]) -> Iterator[list[Row]]:
    """Consecutive rows, sorted by size, cut so that rows times the largest size stays under the budget."""
    batch: list[Row] = []
    for row in rows:
        size = size_of(row)
        if batch and ((len(batch) + 1) * size > BATCH_TOKENS or len(batch) >= BATCH_ROWS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
