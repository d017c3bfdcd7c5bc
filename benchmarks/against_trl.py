"""Compare cai's trainers with TRL's.

    pip install trl               # 1.16 for sft, reward and dpo; for ppo 1.12.0, the last with it
    python benchmarks/against_trl.py sft|reward|dpo|ppo --pairs FILE
        [--shape reference|135m] [--steps 12] [--rounds 3]

Both sides train the same model on the same rows in the same order, with the same optimizer,
precision and loss. FILE has preferences in any form that cai reads, such as the jsonl of HH-RLHF;
pairs with uncertain labels are left out, as TRL has no such labels. Each side runs in a process of
its own, in turn. The time is that of the steps after the first, the memory is the peak of the
process. Prints medians, and how far the losses are apart. ``--ours KEY=VALUE`` sets a field of
cai's ``training`` section (``ppo.KEY=VALUE``: of its ``ppo`` section), to try its other settings.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from bench_models import SHAPES, save_model, save_reward_model
from trl_side import LEARNING_RATE, train_with_trl


def load_rows(options: argparse.Namespace, model: str) -> tuple[list[Any], list[Any]]:
    """Read as many preferences as the steps need, one for each prompt, and tokenize them.

    Returns:
        The preferences, and the tokens of their prompts and answers in the same order.
    """
    from cai.data.preferences import read_preferences
    from cai.models.chat_template.format import ChatFormat
    from cai.models.load import load_tokenizer
    from cai.train.reward.dataset import build_preference_groups

    by_prompt: dict[str, Any] = {}
    for preference in read_preferences(Path(options.pairs)).preferences:
        if preference.p_first == 1.0:
            by_prompt.setdefault(preference.comparison.prompt.id, preference)
    chat = ChatFormat(load_tokenizer(model))
    groups = build_preference_groups(by_prompt.values(), chat, options.max_length).groups
    needed = options.steps * options.batch
    if options.stage != "ppo" and len(groups) < needed:
        sys.exit(f"{options.pairs}: {needed} prompts are needed, but only {len(groups)} are usable")
    groups = groups[:needed]
    return [by_prompt[group.prompt] for group in groups], [group.prompt_group for group in groups]


# -- cai -----------------------------------------------------------------------------------------


def train_with_cai(
    options: argparse.Namespace, model: str, preferences: list[Any]
) -> dict[str, Any]:
    """Train with cai; return the times and the losses (ppo: scores) of the steps."""
    from cai.config import DPO, SFT, Reward, Training
    from cai.train.dpo import train_dpo
    from cai.train.options import TrainerOptions
    from cai.train.reward.trainer import train_reward
    from cai.train.sft import train_sft

    shared = {
        "epochs": 1,
        "batch_size": options.batch,
        "learning_rate": LEARNING_RATE,
        "max_length": options.max_length,
    }
    metric = "score" if options.stage == "ppo" else "loss"
    times: list[float] = []
    values: list[float] = []

    def log(row: dict[str, Any]) -> None:
        times.append(time.perf_counter())
        values.append(row[metric])

    trainer_options = TrainerOptions(
        training=Training(**{"precision": "float32", **chosen_settings(options)["training"]}),
        log=log,
        save_every=float("inf"),  # neither side saves states
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        if options.stage == "sft":
            rows = [(p.comparison.prompt, p.comparison.first) for p in preferences]
            train_sft(rows, model, out, SFT(**shared), options=trainer_options)
        elif options.stage == "reward":
            reward = Reward(**shared, eval_fraction=0.0)
            train_reward(preferences, model, out, reward, options=trainer_options)
        elif options.stage == "dpo":
            train_dpo(preferences, model, out, DPO(**shared), options=trainer_options)
        else:
            prompts = [p.comparison.prompt for p in preferences]
            train_ppo_with_cai(options, prompts, model, out, trainer_options)
    return {"times": times, "values": values}


def train_ppo_with_cai(
    options: argparse.Namespace, prompts: list[Any], model: str, out: Path, trainer_options: Any
) -> None:
    """Train a policy with cai's PPO."""
    from cai.config import PPO, PPORollout
    from cai.train.ppo.trainer import train_ppo

    config = PPO(
        num_updates=options.steps,
        learning_rate=LEARNING_RATE,
        value_learning_rate=LEARNING_RATE,
        rollout=PPORollout(batch_size=options.batch, max_tokens=options.new_tokens),
        **chosen_settings(options)["ppo"],
    )
    reward_model = save_reward_model(model)
    train_ppo(prompts, model, out, config, reward_model=reward_model, options=trainer_options)


def chosen_settings(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the settings of ``--ours``, by section."""
    settings: dict[str, dict[str, Any]] = {"training": {}, "ppo": {}}
    for text in options.ours:
        key, _, value = text.partition("=")
        section = "ppo" if key.startswith("ppo.") else "training"
        settings[section][key.removeprefix("ppo.")] = yaml.safe_load(value)
    return settings


# -- the comparison ------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train on one side in this process, and measure it."""
    preferences, prompt_groups = load_rows(options, options.model)
    if options.side == "cai":
        result = train_with_cai(options, options.model, preferences)
    else:
        result = train_with_trl(options, options.model, prompt_groups)
    times = result["times"]
    return {
        "rows_per_second": options.batch * (len(times) - 1) / (times[-1] - times[0]),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "values": result["values"],
    }


def measure_in_subprocess(options: argparse.Namespace, side: str, model: str) -> dict[str, Any]:
    """Measure one side in a process of its own."""
    completed = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--side", side, "--model", model],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(options.threads)},
        check=False,
    )
    if completed.returncode:
        sys.exit(completed.stderr[-3000:].strip())
    measured: dict[str, Any] = json.loads(completed.stdout.strip().splitlines()[-1])
    return measured


def print_comparison(options: argparse.Namespace, results: dict[str, list[dict[str, Any]]]) -> None:
    """Print the medians of both sides as a table, and how far their losses are apart."""
    print(
        f"{options.stage}, {options.shape} shape, batch {options.batch}, "
        f"{options.threads} threads, {options.rounds} rounds, ours: {options.ours}"
    )
    print("| | cai | TRL | ratio |\n|---|---|---|---|")
    for title, key, digits in (
        ("rows per second", "rows_per_second", ".3g"),
        ("peak memory, GB", "memory", ".2f"),
    ):
        cai = statistics.median(result[key] for result in results["cai"])
        trl = statistics.median(result[key] for result in results["trl"])
        print(f"| {title} | {cai:{digits}} | {trl:{digits}} | {cai / trl:.2f} |")
    cai_values = results["cai"][0]["values"]
    trl_values = results["trl"][0]["values"]
    apart = max(abs(a - b) for a, b in zip(cai_values, trl_values, strict=False))
    print(
        f"{'scores' if options.stage == 'ppo' else 'losses'}: "
        f"cai {cai_values[0]:.4f} .. {cai_values[-1]:.4f}, "
        f"TRL {trl_values[0]:.4f} .. {trl_values[-1]:.4f}; largest difference {apart:.4f}"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["sft", "reward", "dpo", "ppo"])
    parser.add_argument("--pairs", required=True, help="file of preferences")
    parser.add_argument("--shape", choices=["reference", *SHAPES], default="reference")
    parser.add_argument("--steps", type=int, default=12, help="optimizer steps (ppo: updates)")
    parser.add_argument("--batch", type=int, default=16, help="rows per step")
    parser.add_argument("--rounds", type=int, default=3, help="trainings on each side")
    parser.add_argument("--max-length", type=int, default=512, help="tokens of prompt and answer")
    parser.add_argument("--new-tokens", type=int, default=48, help="of an answer that ppo samples")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--side", choices=["cai", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    if options.side:
        print(json.dumps(measure(options)))
        return
    results: dict[str, list[dict[str, Any]]] = {"cai": [], "trl": []}
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(options.shape, Path(folder) / "model")
        if options.stage == "ppo":
            save_reward_model(model)
        for _ in range(options.rounds):
            for side in results:
                results[side].append(measure_in_subprocess(options, side, model))
    print_comparison(options, results)


if __name__ == "__main__":
    main()
