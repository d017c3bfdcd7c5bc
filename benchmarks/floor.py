"""Estimate the least time that a training step can take on this machine.

    python benchmarks/floor.py ppo|reward|sft|dpo
        [--shape 135m] [--rows 8] [--prompt 150] [--answer 48] [--threads 1]

Counts the matrix products that the step needs: two floating-point operations per weight and token
in the forward pass and four in the backward pass, the products of attention, and the projection to
the vocabulary for answer tokens only. Nothing is counted for padding, norms, softmax, sampling or
the optimizer. The rate is measured with the largest product of a layer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from bench_models import SHAPES, load_shape
from transformers import PretrainedConfig

MATMUL_ROWS = 1_024
MATMUL_REPEATS = 30


def trunk_operations(config: PretrainedConfig, tokens: int, length: int) -> float:
    """Count the operations of a forward pass without the projection to the vocabulary.

    Args:
        config: The shape of the model.
        tokens: Tokens of all rows.
        length: Tokens of one row.
    """
    hidden = config.hidden_size
    key_value = hidden * config.num_key_value_heads // config.num_attention_heads
    weights = 2 * hidden * hidden + 2 * hidden * key_value + 3 * hidden * config.intermediate_size
    attention = 2 * 2 * hidden * length / 2  # scores and sums over the earlier half, on average
    return config.num_hidden_layers * (2 * weights + attention) * tokens


def step_operations(options: argparse.Namespace, config: PretrainedConfig) -> float:
    """Count the operations of one step on ``options.rows`` prompts.

    The rows of ``reward`` and ``dpo`` are pairs, whose prompt is read once for both answers.
    """
    answers_per_row = 2 if options.stage in ("reward", "dpo") else 1
    answer_tokens = options.rows * answers_per_row * options.answer
    tokens = options.rows * options.prompt + answer_tokens
    scalar = trunk_operations(config, tokens, options.prompt + options.answer)
    policy = scalar + 2 * config.hidden_size * config.vocab_size * answer_tokens
    training = 3  # a forward pass, and a backward pass of twice its operations
    if options.stage == "sft":
        return training * policy
    if options.stage == "reward":
        return training * scalar
    if options.stage == "dpo":
        return training * policy + policy  # and the reference
    sampling = policy
    evaluation = 2 * policy + 2 * scalar  # policy and reference, critic and reward model
    return sampling + evaluation + options.epochs * training * (policy + scalar)


def measure_rate(config: PretrainedConfig) -> float:
    """Measure the operations per second of the largest product of a layer, in float32."""
    inputs = torch.randn(MATMUL_ROWS, config.hidden_size)
    weights = torch.randn(config.hidden_size, config.intermediate_size)
    seconds = []
    for _ in range(MATMUL_REPEATS):
        started = time.perf_counter()
        inputs @ weights
        seconds.append(time.perf_counter() - started)
    return 2 * MATMUL_ROWS * weights.numel() / statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["sft", "reward", "dpo", "ppo"])
    parser.add_argument("--shape", choices=["reference", *SHAPES], default="135m")
    parser.add_argument("--rows", type=int, default=8, help="prompts per step")
    parser.add_argument("--prompt", type=int, default=150, help="tokens of a prompt")
    parser.add_argument("--answer", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a PPO update")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = load_shape(options.shape)
    operations = step_operations(options, config)
    rate = measure_rate(config)
    result = {
        "teraflop": round(operations / 1e12, 2),
        "gigaflop_per_second": round(rate / 1e9, 1),
        "seconds": round(operations / rate, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
