"""Compare the in-process backend with a plain transformers script, on judging and on generating.

    python benchmarks/local_backend.py [--pairs 24] [--prompts 64] [--rounds 3] [--preferences FILE]

The script does what is usual: it takes the prompts in the order they come, padded on the left in
batches of 16, computes the logits of the whole batch to judge, and calls ``model.generate`` to
answer. Both sides have the same model, in float32, and the same prompts. Also prints how far the
probabilities are apart, and how many of the greedy answers are the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cai.backends.local import LocalBackend
from cai.backends.protocol import (
    Completion,
    GenerateRequest,
    LoglikelihoodRequest,
    OptionLogprobs,
    Request,
    Response,
)
from cai.constitution import load_constitution
from cai.data.preferences import read_preferences
from cai.data.prompts import read_prompts
from cai.feedback.judge import judge
from cai.feedback.judge_methods import judge_method
from cai.records import Comparison, Message, Prompt
from cai.shipped import reference_model

BATCH = 16
MAX_CHARACTERS = 1200  # of a prompt with both answers
MAX_TOKENS = 90
ROOT = Path(__file__).parents[1]

Result = TypeVar("Result")


class RecordingModel:
    """A backend as the judge takes it, without a cache; keeps the last requests and responses."""

    def __init__(self, backend: LocalBackend) -> None:
        self.backend = backend
        self.fingerprint = backend.fingerprint
        self.requests: list[Request] = []
        self.responses: list[Response] = []

    def __call__(self, requests: Sequence[Request]) -> list[Response]:
        """Return the responses, in the order of the requests."""
        self.requests = list(requests)
        self.responses = respond(self.backend, self.requests)
        return self.responses


class PlainScript:
    """The reference model as a plain transformers script calls it."""

    def __init__(self) -> None:
        name = reference_model()
        self.model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(name, padding_side="left")

    @torch.inference_mode()
    def option_logprobs(self, prompts: list[str], options: list[list[int]]) -> list[list[float]]:
        """Return the log-probabilities of the options of each prompt, one token each."""
        rows: list[list[float]] = []
        for start, inputs in self._batches(prompts):
            logprobs = self.model(**inputs).logits[:, -1].log_softmax(-1)
            for row, ids in zip(logprobs, options[start : start + BATCH], strict=True):
                rows.append(row[ids].tolist())
        return rows

    @torch.inference_mode()
    def generate(self, prompts: list[str]) -> list[str]:
        """Return the greedy answers."""
        answers: list[str] = []
        for _, inputs in self._batches(prompts):
            output = self.model.generate(
                **inputs,
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )
            tokens = output[:, inputs["input_ids"].shape[1] :]
            answers += self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [answer.strip() for answer in answers]

    def _batches(self, prompts: list[str]) -> Iterator[tuple[int, Any]]:
        for start in range(0, len(prompts), BATCH):
            batch = prompts[start : start + BATCH]
            yield (
                start,
                self.tokenizer(batch, return_tensors="pt", padding=True, add_special_tokens=False),
            )


def respond(backend: LocalBackend, requests: Sequence[Request]) -> list[Response]:
    """Return the responses of a backend, in the order of the requests."""
    responses = dict(backend.respond(requests))
    return [responses[index] for index in range(len(requests))]


def median_seconds(work: Callable[[], Result], rounds: int) -> tuple[float, Result]:
    """Do the work several times; return the median of its seconds, and its last result."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


def read_comparisons(path: Path, count: int) -> list[Comparison]:
    """Read comparisons that are not too long, spread over the file."""
    comparisons = [
        comparison
        for comparison in (p.comparison for p in read_preferences(path).preferences)
        if len(comparison.prompt.text + comparison.first + comparison.second) < MAX_CHARACTERS
    ]
    return comparisons[:: max(1, len(comparisons) // count)][:count]


def compare_judging(
    backend: LocalBackend, script: PlainScript, comparisons: list[Comparison], rounds: int
) -> dict[str, Any]:
    """Judge comparisons by all principles in both orders, on both sides."""
    constitution = load_constitution("reference")
    method = judge_method("option_logprobs", seed=0, swap_positions=True)
    model = RecordingModel(backend)
    cai_seconds, _ = median_seconds(
        lambda: judge(comparisons, constitution, model, method, principles=0), rounds
    )
    requests = [r for r in model.requests if isinstance(r, LoglikelihoodRequest)]
    responses = [r for r in model.responses if isinstance(r, OptionLogprobs)]
    prompts = [backend.render(request) for request in requests]
    options = []
    for request in requests:
        _, tokens_by_option = backend.format.options(request.messages, request.options)
        options.append([tokens[0] for tokens in tokens_by_option])
    script_seconds, script_logprobs = median_seconds(
        lambda: script.option_logprobs(prompts, options), rounds
    )
    cai_p_first = torch.tensor([r.logprobs for r in responses]).softmax(-1)[:, 0]
    script_p_first = torch.tensor(script_logprobs).softmax(-1)[:, 0]
    principles = len(constitution.used_for("judge"))
    return {
        "judging": f"{len(comparisons)} pairs x {principles} principles x both orders",
        "prompts": len(prompts),
        "threads": torch.get_num_threads(),
        "cai_per_second": round(len(prompts) / cai_seconds, 1),
        "script_per_second": round(len(prompts) / script_seconds, 1),
        "ratio": round(script_seconds / cai_seconds, 2),
        "largest_difference": float((cai_p_first - script_p_first).abs().max()),
    }


def read_conversations(count: int, *, mixed: bool) -> list[tuple[Message, ...]]:
    """Read evaluation prompts, red-team and benign ones in turn.

    Args:
        count: Number of prompts.
        mixed: Put every third prompt at the end of a longer conversation.
    """
    folder = ROOT / "examples/prompts"
    red_team = read_prompts(folder / "eval_red_team.jsonl", "red_team")
    benign = read_prompts(folder / "eval_benign.jsonl", "benign")
    pairs = zip(red_team, benign, strict=False)
    prompts: list[Prompt] = [prompt for pair in pairs for prompt in pair][:count]
    conversations = [prompt.messages for prompt in prompts]
    if mixed:
        for index in range(0, len(prompts), 3):
            earlier = prompts[(index + 7) % len(prompts)]
            answer = "I am glad to help. " * (index % 11)
            conversations[index] = earlier.with_answer(answer) + conversations[index]
    return conversations


def compare_generating(
    backend: LocalBackend,
    script: PlainScript,
    conversations: list[tuple[Message, ...]],
    rounds: int,
) -> dict[str, Any]:
    """Answer conversations greedily on both sides."""
    requests = [
        GenerateRequest(messages, seed=0, temperature=0, max_tokens=MAX_TOKENS)
        for messages in conversations
    ]
    cai_seconds, responses = median_seconds(lambda: respond(backend, requests), rounds)
    prompts = [backend.render(request) for request in requests]
    script_seconds, script_answers = median_seconds(lambda: script.generate(prompts), rounds)
    completions = [r for r in responses if isinstance(r, Completion)]
    tokens = sum(completion.tokens_out for completion in completions)
    same = sum(
        completion.text == answer
        for completion, answer in zip(completions, script_answers, strict=True)
    )
    return {
        "cai_tokens_per_second": round(tokens / cai_seconds),
        "script_tokens_per_second": round(tokens / script_seconds),
        "ratio": round(script_seconds / cai_seconds, 2),
        "same_answers": f"{same} of {len(requests)}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=24, help="number of pairs to judge")
    parser.add_argument("--prompts", type=int, default=64, help="number of prompts to answer")
    parser.add_argument(
        "--preferences",
        type=Path,
        default=ROOT / "examples/prompts/helpful_preferences.jsonl",
        help="file of the pairs to judge",
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    backend = LocalBackend("reference")
    backend.language_model.model.float()
    script = PlainScript()
    comparisons = read_comparisons(options.preferences, options.pairs)
    print(json.dumps(compare_judging(backend, script, comparisons, options.rounds)))
    for name in ("short", "mixed"):
        conversations = read_conversations(options.prompts, mixed=name == "mixed")
        title = f"{len(conversations)} {name} prompts, at most {MAX_TOKENS} tokens"
        result = compare_generating(backend, script, conversations, options.rounds)
        print(json.dumps({"generating": title, **result}))


if __name__ == "__main__":
    main()
