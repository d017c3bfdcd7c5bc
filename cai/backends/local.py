"""The in-process backend: a transformers model on the CPU or one accelerator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, TypeVar

import torch
from torch.nn import functional as F

from cai.backends.protocol import Answer, Call, Choice, Choose, Complete, Completion, Finish
from cai.models.branch import batches, grouped, last_logits
from cai.models.chat import ChatFormat
from cai.models.decode import decode
from cai.models.load import LanguageModel, context_length, fingerprint, load_language_model, load_tokenizer, pass_tokens
from cai.models.padding import padding_id
from cai.models.stopping import stop_tokens

Row = TypeVar("Row")
BATCH_TOKENS = 24_576
"""Prompt and answer tokens of one batch, padding counted."""
BATCH_ROWS = 256


class _Wanted(NamedTuple):
    """An option of a call, to be weighed at the end of a row."""

    call: int
    option: int
    tokens: tuple[int, ...]


class LocalBackend:
    """Answers calls with a model in this process, in batches of like length under a token budget."""

    def __init__(self, name: str, style: str = "", thinking: bool = False) -> None:
        self.name = name
        self.fingerprint = f"{fingerprint(name)}{':' + style if style else ''}{':thinking' if thinking else ''}"
        self._style, self._thinking = style, thinking
        self._loaded: tuple[LanguageModel, ChatFormat] | None = None
        self._tokenizer_format: ChatFormat | None = None

    @property
    def format(self) -> ChatFormat:
        """The chat format; opens the tokenizer, not the model."""
        if self._tokenizer_format is None:
            self._tokenizer_format = ChatFormat(load_tokenizer(self.name), self._style, self._thinking)
        return self._tokenizer_format

    @property
    def notes(self) -> list[str]:
        """What is done to conversations for the model's chat template."""
        form = self._tokenizer_format
        return [f"{self.name}: {line}" for line in form.habits.said] if form and form.style == "chat" else []

    @property
    def language_model(self) -> LanguageModel:
        if self._loaded is None:
            self._loaded = (load_language_model(self.name), self.format)
        return self._loaded[0]

    def rendered(self, call: Call) -> str:
        return self.format.prompt(call.messages)

    def answers(self, calls: Sequence[Call]) -> Iterator[tuple[int, Answer]]:
        completing = [(i, call) for i, call in enumerate(calls) if isinstance(call, Complete)]
        choosing = [(i, call) for i, call in enumerate(calls) if isinstance(call, Choose)]
        yield from self._complete(completing)
        yield from self._choose(choosing)

    # -- completing ----------------------------------------------------------------------------------------------------

    def _complete(self, calls: list[tuple[int, Complete]]) -> Iterator[tuple[int, Answer]]:
        prompts = {i: self.format.ids(self.rendered(call)) for i, call in calls}
        for i, call in calls:
            if len(prompts[i]) + call.max_tokens > self._context:
                yield i, Completion("", "too_long", len(prompts[i]), 0, self._too_long(len(prompts[i]), call.max_tokens))
        fitting = [(i, call) for i, call in calls if len(prompts[i]) + call.max_tokens <= self._context]
        # rows of one batch share their sampling values
        for sampling in sorted({(c.temperature, c.max_tokens) for _, c in fitting}):
            group = sorted(
                (row for row in fitting if (row[1].temperature, row[1].max_tokens) == sampling), key=lambda row: len(prompts[row[0]])
            )
            for batch in _batches(group, lambda row: len(prompts[row[0]]) + row[1].max_tokens):
                yield from self._complete_batch(batch, [prompts[i] for i, _ in batch])

    def _complete_batch(self, batch: list[tuple[int, Complete]], prompts: list[list[int]]) -> Iterator[tuple[int, Answer]]:
        model, tokenizer = self.language_model
        first = batch[0][1]
        decoded = decode(
            model, prompts, max_tokens=first.max_tokens, temperature=first.temperature,
            seeds=[call.seed for _, call in batch], stop_ids=self._stop_ids, pad_id=padding_id(tokenizer),
        )  # fmt: skip
        for (i, _), prompt, row in zip(batch, prompts, decoded, strict=True):
            thoughts, text = self._read(row.tokens[:-1] if row.stopped else row.tokens)
            cut = min((at for stop in self.format.stop if (at := text.find(stop)) >= 0), default=None)
            finish: Finish = "stop" if row.stopped or cut is not None or self.format.style == "plain" else "length"
            text = text[:cut] if self.format.style == "plain" else text[:cut].strip()
            yield i, Completion(text, finish, len(prompt), len(row.tokens), thoughts=thoughts)

    def _read(self, tokens: list[int]) -> tuple[str, str]:
        """What a model wrote, as (thoughts, answer)."""
        tokenizer = self.format.tokenizer
        if self.format.tags is None:
            return "", str(tokenizer.decode(tokens, skip_special_tokens=True))
        # the tags may be special tokens, which must not vanish before they are seen
        thoughts, answer = self.format.split_thoughts(str(tokenizer.decode(tokens)))
        for token in tokenizer.all_special_tokens:
            thoughts, answer = thoughts.replace(token, ""), answer.replace(token, "")
        return thoughts, answer

    # -- choosing ------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _choose(self, calls: list[tuple[int, Choose]]) -> Iterator[tuple[int, Answer]]:
        """Rows that begin alike (one answer criticised by many principles) are read together from their shared beginning."""
        model, tokenizer = self.language_model
        rows: dict[tuple[int, ...], list[_Wanted]] = {}
        totals: dict[int, list[float | None]] = {}
        lengths: dict[int, int] = {}
        for i, call in calls:
            prompt, options = self.format.options(call.messages, call.options)
            lengths[i], totals[i] = len(prompt), [None] * len(options)
            if len(prompt) + max(map(len, options)) > self._context:
                longest = max(map(len, options))
                yield i, Choice((0.0,) * len(options), len(prompt), "too_long", note=self._too_long(len(prompt), longest))
                continue
            for number, option in enumerate(options):
                rows.setdefault((*prompt, *option[:-1]), []).append(_Wanted(i, number, tuple(option)))
        listed = list(rows)
        # the end of each row, as far as its longest option reaches
        reach = [max(len(wanted.tokens) for wanted in rows[row]) for row in listed]
        for batch in batches(grouped(model, listed, reach), listed, pass_tokens(model.device)):
            for row, logits in last_logits(model, listed, reach, batch, padding_id(tokenizer)).items():
                steps = F.log_softmax(logits.float(), -1)
                for i, number, tokens in rows[listed[row]]:
                    wanted = torch.tensor(tokens, device=steps.device).unsqueeze(1)
                    totals[i][number] = float(steps[-len(tokens) :].gather(1, wanted).sum())
                    found = tuple(total for total in totals[i] if total is not None)
                    if len(found) == len(totals[i]):
                        yield i, Choice(found, lengths[i])

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
