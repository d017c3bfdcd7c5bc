"""The least time a training step can take: the products that its maths needs, at the rate at which this machine multiplies.

    python benchmarks/floor.py ppo|reward|sft|dpo [--shape 135m] [--rows 8] [--prompt 150] [--answer 48] [--threads 1]

Counts two floating-point operations per weight and token forward and four backward, attention's own products, and the vocabulary for
answer tokens only; nothing for padding, norms, softmax, sampling or the optimiser. The rate is that of the largest product of a layer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from against_trl import SHAPES
from transformers import AutoConfig, PretrainedConfig

from cai.shipped import reference_model

PASS = 1_024


def forward(
    config: PretrainedConfig, tokens: float, length: float, answers: float, head: bool
) -> float:
    """Operations of one forward pass over ``tokens`` in rows of ``length``, of which ``answers`` are projected on the vocabulary."""
    hidden, heads = config.hidden_size, config.num_attention_heads
    narrow = hidden * config.num_key_value_heads // heads
    layer = 2 * hidden * hidden + 2 * hidden * narrow + 3 * hidden * config.intermediate_size
    attention = 2 * 2 * hidden * length / 2  # scores and sums over the earlier half
    trunk = config.num_hidden_layers * (2 * layer + attention) * tokens
    return trunk + (2 * hidden * config.vocab_size * answers if head else 0)


def operations(
    stage: str, config: PretrainedConfig, rows: int, prompt: int, answer: int, epochs: int
) -> float:
    """Operations of one step on ``rows`` prompts: pairs for ``reward`` and ``dpo``, whose prompt is read once for both answers."""
    pair = stage in ("reward", "dpo")
    tokens, answers = (
        rows * (prompt + (2 if pair else 1) * answer),
        rows * (2 if pair else 1) * answer,
    )
    once = {head: forward(config, tokens, prompt + answer, answers, head) for head in (True, False)}
    if (
        stage == "ppo"
    ):  # answering; one look each by policy, reference, critic and reward model; the passes of policy and critic
        return (
            once[True] + 2 * once[True] + 2 * once[False] + 3 * epochs * (once[True] + once[False])
        )
    return 3 * once[stage != "reward"] + (once[True] if stage == "dpo" else 0)


def rate(config: PretrainedConfig) -> float:
    """Operations a second of the largest product of a layer, float32."""
    x, w = (
        torch.randn(PASS, config.hidden_size),
        torch.randn(config.hidden_size, config.intermediate_size),
    )
    seconds = []
    for _ in range(30):
        started = time.perf_counter()
        x @ w
        seconds.append(time.perf_counter() - started)
    return 2 * x.shape[0] * w.numel() / statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["sft", "reward", "dpo", "ppo"])
    parser.add_argument("--shape", choices=["reference", *SHAPES], default="135m")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=150, help="tokens of a prompt")
    parser.add_argument("--answer", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--epochs", type=int, default=4, help="of an update of PPO")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = (
        AutoConfig.from_pretrained(reference_model())
        if options.shape == "reference"
        else AutoConfig.for_model("llama", **SHAPES[options.shape])
    )
    needed = operations(
        options.stage, config, options.rows, options.prompt, options.answer, options.epochs
    )
    speed = rate(config)
    print(
        json.dumps(
            {
                "teraflop": round(needed / 1e12, 2),
                "gigaflop_per_second": round(speed / 1e9, 1),
                "seconds": round(needed / speed, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
