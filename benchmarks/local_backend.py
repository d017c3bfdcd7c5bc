"""The in-process backend beside a plain transformers script: judging by letters, and generating.

    python benchmarks/local_backend.py [--pairs 24] [--prompts 64] [--rounds 3] [--preferences FILE]

The script does what is usual: prompts in the order they come, padded on the left in batches of 16, logits of the whole batch (judging),
``model.generate`` (answers). Same model, float32, same prompts; probabilities and greedy tokens are held against each other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cai.backends.local import LocalBackend
from cai.backends.protocol import Completion, GenerateRequest, LoglikelihoodRequest, OptionLogprobs
from cai.constitution import load_constitution
from cai.data.preferences import read_preferences
from cai.data.prompts import read_prompts
from cai.feedback.judge import judge
from cai.feedback.judge_methods import judge_method
from cai.shipped import reference_model

BATCH = 16
ROOT = Path(__file__).parents[1]


class Recorded:
    """What the judge asks, answered by the backend and kept."""

    def __init__(self, backend: LocalBackend) -> None:
        self.backend, self.fingerprint, self.calls, self.answers = (
            backend,
            backend.fingerprint,
            [],
            [],
        )  # type: ignore[var-annotated]

    def __call__(self, calls: Any) -> list[Any]:
        found = dict(self.backend.respond(calls))
        self.calls, self.answers = list(calls), [found[i] for i in range(len(calls))]
        return self.answers


def timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


@torch.inference_mode()
def plain_letters(
    model: Any, tokenizer: Any, texts: list[str], options: list[list[int]]
) -> list[list[float]]:
    found = []
    for at in range(0, len(texts), BATCH):
        batch = tokenizer(
            texts[at : at + BATCH], return_tensors="pt", padding=True, add_special_tokens=False
        )
        logprobs = model(**batch).logits[:, -1].log_softmax(-1)
        found += [
            row[ids].tolist() for row, ids in zip(logprobs, options[at : at + BATCH], strict=True)
        ]
    return found


@torch.inference_mode()
def plain_generate(model: Any, tokenizer: Any, texts: list[str], max_tokens: int) -> list[str]:
    found = []
    for at in range(0, len(texts), BATCH):
        batch = tokenizer(
            texts[at : at + BATCH], return_tensors="pt", padding=True, add_special_tokens=False
        )
        out = model.generate(
            **batch, max_new_tokens=max_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        found += tokenizer.batch_decode(
            out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
        )
    return [text.strip() for text in found]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument(
        "--preferences",
        type=Path,
        default=ROOT / "examples/prompts/helpful_preferences.jsonl",
        help="pairs to judge",
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    backend = LocalBackend("reference")
    model = AutoModelForCausalLM.from_pretrained(reference_model(), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(reference_model(), padding_side="left")
    backend.language_model.model.float()

    constitution = load_constitution("reference")
    human = read_preferences(options.preferences).preferences
    human = [
        p
        for p in human
        if len(p.comparison.prompt.text) + len(p.comparison.first) + len(p.comparison.second) < 1200
    ]
    shown = [p.comparison for p in human[:: max(1, len(human) // options.pairs)][: options.pairs]]
    model = Recorded(backend)
    every = len(constitution.used_for("judge"))
    ours, _ = timed(
        lambda: judge(
            shown,
            constitution,
            model,
            judge_method("option_logprobs", seed=0, swap_positions=True),
            principles=0,
        ),
        options.rounds,
    )
    asked = [call for call in model.calls if isinstance(call, LoglikelihoodRequest)]
    texts = [backend.rendered(call) for call in asked]
    ids = [
        [option[0] for option in backend.format.options(call.messages, call.options)[1]]
        for call in asked
    ]
    plain, probabilities = timed(
        lambda: plain_letters(model, tokenizer, texts, ids), options.rounds
    )
    apart = max(
        abs(torch.tensor(a.logprobs).softmax(0)[0] - torch.tensor(b).softmax(0)[0]).item()
        for a, b in zip(model.answers, probabilities, strict=True)
        if isinstance(a, OptionLogprobs)
    )
    print(
        json.dumps(
            {
                "judging": f"{options.pairs} pairs x {every} principles x both orders",
                "prompts": len(texts),
                "threads": torch.get_num_threads(),
                "ours_per_second": round(len(texts) / ours, 1),
                "script_per_second": round(len(texts) / plain, 1),
                "ratio": round(plain / ours, 2),
                "probabilities_apart": apart,
            }
        )
    )

    sets = [
        read_prompts(ROOT / f"examples/prompts/{name}.jsonl", "x")
        for name in ("eval_red_team", "eval_benign")
    ]
    prompts = [p for pair in zip(*sets, strict=False) for p in pair][: options.prompts]
    for sizes in ("short", "mixed"):
        # mixed: some prompts stand at the end of a longer conversation
        talks = [
            p.messages
            if sizes == "short" or i % 3
            else prompts[(i + 7) % len(prompts)].with_answer("I am glad to help. " * (i % 11))
            + p.messages
            for i, p in enumerate(prompts)
        ]
        calls = [GenerateRequest(talk, seed=0, temperature=0, max_tokens=90) for talk in talks]
        ours, found = timed(lambda calls=calls: dict(backend.respond(calls)), options.rounds)  # type: ignore[misc]
        written = [backend.rendered(call) for call in calls]
        plain, expected = timed(
            lambda written=written: plain_generate(model, tokenizer, written, 90), options.rounds
        )  # type: ignore[misc]
        answers = [answer for i in range(len(calls)) if isinstance(answer := found[i], Completion)]
        same = sum(answer.text == text for answer, text in zip(answers, expected, strict=True))
        tokens = sum(answer.tokens_out for answer in answers)
        print(
            json.dumps(
                {
                    "generating": f"{len(calls)} {sizes} prompts, at most 90 tokens",
                    "ours_tokens_per_second": round(tokens / ours),
                    "generate_tokens_per_second": round(tokens / plain),
                    "ratio": round(plain / ours, 2),
                    "same_answers": f"{same} of {len(calls)}",
                }
            )
        )


if __name__ == "__main__":
    main()
