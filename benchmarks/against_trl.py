"""cai's trainers beside TRL's: the same model, rows, batches in the same order, optimiser, precision and maths, in one run.

    pip install trl                       # 1.16 for sft, reward and dpo; ppo needs 1.12.0, the last that has it
    python benchmarks/against_trl.py sft|reward|dpo|ppo --pairs FILE [--shape reference|135m] [--steps 12] [--rounds 3]

FILE holds preferences in any form that cai reads, such as the jsonl of HH-RLHF. Every side runs in a process of its own, turn by
turn; time is that of the steps after the first, memory the peak of the process. Prints medians, and how far the losses are apart.
``--ours KEY=VALUE`` sets a field of cai's ``training`` section, to see what its own defaults or adapters make of it.
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

import torch
import yaml

SHAPES = {
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49_152,
        "tie_word_embeddings": True,
        "max_position_embeddings": 2048,
    },
}
RATE, BETAS, EPS = 1e-5, (0.9, 0.95), 1e-5


# -- what both sides are given -----------------------------------------------------------------------------------------


def make_model(shape: str, folder: Path) -> str:
    """A model of the shape, with the reference tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from cai.shipped import reference_model

    tokenizer = AutoTokenizer.from_pretrained(reference_model())
    if shape == "reference":
        model = LlamaForCausalLM.from_pretrained(reference_model(), dtype=torch.float32)
    else:
        torch.manual_seed(0)
        ends = {
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
        }
        model = LlamaForCausalLM(LlamaConfig(**SHAPES[shape], **ends))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def rows_of(options: argparse.Namespace, model: str) -> list[Any]:
    """Labelled elements of one pair each, tokenised once, as many as the steps take."""
    from cai.data.preferences import read_preferences
    from cai.models.chat_template.format import ChatFormat
    from cai.models.load import load_tokenizer
    from cai.train.reward.dataset import build_preference_groups

    read, seen = [], set()
    for preference in read_preferences(Path(options.pairs)).preferences:
        if preference.comparison.prompt.id not in seen:
            seen.add(preference.comparison.prompt.id)
            read.append(preference)
    groups, _ = build_preference_groups(read, ChatFormat(load_tokenizer(model)), options.max_length)
    return groups[: options.steps * options.batch]


def preferences_of(options: argparse.Namespace, model: str) -> list[Any]:
    """The preferences behind :func:`rows_of`, in the same order."""
    from cai.data.preferences import read_preferences

    wanted = {group.prompt for group in rows_of(options, model)}
    found = {
        p.comparison.prompt.id: p
        for p in reversed(read_preferences(Path(options.pairs)).preferences)
    }
    return [found[group.prompt] for group in rows_of(options, model) if group.prompt in wanted]


# -- our side ----------------------------------------------------------------------------------------------------------


def ours(options: argparse.Namespace, model: str) -> dict[str, Any]:
    from cai.config import DPO, PPO, SFT, PPORollout, Reward, Training
    from cai.train.dpo import train_dpo
    from cai.train.options import TrainerOptions
    from cai.train.ppo.trainer import train_ppo
    from cai.train.reward.trainer import train_reward
    from cai.train.sft import train_sft

    chosen = {
        key: yaml.safe_load(value)
        for key, _, value in (text.partition("=") for text in options.ours)
    }
    training = Training(
        **({"precision": "float32"} | {k: v for k, v in chosen.items() if not k.startswith("ppo.")})
    )
    rows, stamps, seen = preferences_of(options, model), [], []
    same = {
        "epochs": 1,
        "batch_size": options.batch,
        "learning_rate": RATE,
        "max_length": options.max_length,
    }

    def log(row: dict[str, Any]) -> None:
        stamps.append(time.perf_counter())
        seen.append(row.get("loss", row.get("score")))

    # neither side saves states
    shared = TrainerOptions(training=training, log=log, save_every=float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        if options.stage == "sft":
            train_sft(
                [(p.comparison.prompt, p.comparison.first) for p in rows],
                model,
                out,
                SFT(**same),
                options=shared,
            )
        elif options.stage == "reward":
            train_reward(rows, model, out, Reward(**same, eval_fraction=0.0), options=shared)
        elif options.stage == "dpo":
            train_dpo(rows, model, out, DPO(**same), options=shared)
        else:
            extra = {
                key.removeprefix("ppo."): value
                for key, value in chosen.items()
                if key.startswith("ppo.")
            }
            config = PPO(
                num_updates=options.steps,
                learning_rate=RATE,
                value_learning_rate=RATE,
                rollout=PPORollout(batch_size=options.batch, max_tokens=options.new_tokens),
                **extra,
            )
            train_ppo(
                [p.comparison.prompt for p in rows],
                model,
                out,
                config,
                reward_model=reward_model(model),
                options=shared,
            )
    return {"stamps": stamps, "seen": seen}


# -- theirs ------------------------------------------------------------------------------------------------------------


def same_optimizer(parameters: Any, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """cai's optimiser and schedule."""
    warm = max(1, round(0.05 * steps))
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=BETAS, eps=EPS, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warm, max(0.0, (steps - s) / max(1, steps - warm)))
    )
    return optimizer, schedule


def reward_model(model: str) -> str:
    """A scorer with a head that was drawn once, beside the model."""
    from cai.models.scalar import load_scalar_model

    folder = Path(model).with_name("scorer")
    if not folder.is_dir():
        torch.manual_seed(1)
        scalar = load_scalar_model(model, new_head=True)
        scalar.model.save_pretrained(folder)
        scalar.tokenizer.save_pretrained(folder)
    return str(folder)


def theirs(options: argparse.Namespace, model: str) -> dict[str, Any]:
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    from cai.train.batching import epoch_batches

    tokenizer, groups = AutoTokenizer.from_pretrained(model), rows_of(options, model)
    if options.stage == "ppo":
        return their_ppo(options, model, tokenizer, groups)
    import trl

    # the rows in the order in which cai takes them
    sizes = [
        len(e.prompt_group.prompt) + len(e.prompt_group.answers[0])
        if options.stage == "sft"
        else e.prompt_group.size
        for e in groups
    ]
    order = [i for batch in epoch_batches(sizes, options.batch, 0, options.stage, 0) for i in batch]
    groups = [groups[i] for i in order]
    stamps: list[float] = []

    class Stamps(TrainerCallback):
        def on_step_end(self, *arguments: Any, **more: Any) -> None:
            stamps.append(time.perf_counter())

    common = {
        "output_dir": tempfile.mkdtemp(),
        "max_steps": options.steps,
        "per_device_train_batch_size": options.batch,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "max_length": options.max_length,
        "max_grad_norm": 1.0,
        "dataloader_num_workers": 0,
    }
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    if options.stage == "reward":
        from cai.keys import seed_for
        from cai.models.scalar import load_scalar_model

        torch.manual_seed(seed_for(0, "reward head"))
        loaded = load_scalar_model(model, new_head=True).model
        data = [
            {
                "chosen_ids": e.prompt_group.prompt + e.prompt_group.answers[0],
                "rejected_ids": e.prompt_group.prompt + e.prompt_group.answers[1],
            }
            for e in groups
        ]
        kind, config = trl.RewardTrainer, trl.RewardConfig(**common, disable_dropout=True)
    elif options.stage == "dpo":
        data = [
            {
                "prompt_ids": e.prompt_group.prompt,
                "chosen_ids": e.prompt_group.answers[0],
                "rejected_ids": e.prompt_group.answers[1],
            }
            for e in groups
        ]
        kind, config = (
            trl.DPOTrainer,
            trl.DPOConfig(**common, precompute_ref_log_probs=True, beta=0.1),
        )
    else:
        data = [
            {
                "input_ids": e.prompt_group.prompt + e.prompt_group.answers[0],
                "labels": [-100] * len(e.prompt_group.prompt) + e.prompt_group.answers[0],
            }
            for e in groups
        ]
        kind, config = trl.SFTTrainer, trl.SFTConfig(**common)

    class InOrder(kind):  # type: ignore[misc, valid-type]
        def _get_train_sampler(self, *arguments: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

        def _prepare_dataset(self, dataset: Any, *arguments: Any, **more: Any) -> Any:
            return dataset  # it is tokenised

    trainer = InOrder(
        model=loaded,
        args=config,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        callbacks=[Stamps()],
        optimizers=same_optimizer(loaded.parameters(), options.steps),
    )
    trainer.train()
    return {
        "stamps": stamps,
        "seen": [row["loss"] for row in trainer.state.log_history if "loss" in row],
    }


def their_ppo(
    options: argparse.Namespace, model: str, tokenizer: Any, groups: list[Any]
) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    policy, reference = (
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32) for _ in range(2)
    )
    scorer, value = (
        AutoModelForSequenceClassification.from_pretrained(reward_model(model), dtype=torch.float32)
        for _ in range(2)
    )
    config = PPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=options.batch,
        total_episodes=options.steps * options.batch,
        num_ppo_epochs=4,
        num_mini_batches=1,
        response_length=options.new_tokens,
        temperature=1.0,
        stop_token="eos",
        kl_coef=0.05,
        num_sample_generations=0,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        local_rollout_forward_batch_size=options.batch,
        logging_steps=1,
    )
    data = Dataset.from_list([{"input_ids": e.prompt_group.prompt} for e in groups])
    stamps, seen = [], []

    class Logged(PPOTrainer):  # type: ignore[misc]
        def log(self, logs: dict[str, float], *arguments: Any) -> None:
            stamps.append(time.perf_counter())
            seen.append(logs["objective/scores"])

    trainer = Logged(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=scorer,
        value_model=value,
        train_dataset=data,
    )
    trainer.train()
    return {"stamps": stamps, "seen": seen}


# -- the run -----------------------------------------------------------------------------------------------------------


def one(options: argparse.Namespace, side: str, model: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--model", model]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(options.threads)},
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["sft", "reward", "dpo", "ppo"])
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--shape", choices=["reference", *SHAPES], default="reference")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours", nargs="*", default=[])
    parser.add_argument("--side", choices=["cai", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        result = (ours if options.side == "cai" else theirs)(options, options.model)
        stamps = result["stamps"]
        print(
            json.dumps(
                {
                    "learning_rate": options.batch * (len(stamps) - 1) / (stamps[-1] - stamps[0]),
                    "seen": result["seen"],
                    "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
                }
            )
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(options.shape, Path(folder) / "model")
        if options.stage == "ppo":
            reward_model(model)
        found: dict[str, list[dict[str, Any]]] = {"cai": [], "trl": []}
        for _ in range(options.rounds):
            for side, results in found.items():
                results.append(one(options, side, model))
    rates, memory = (
        {side: statistics.median(r[key] for r in results) for side, results in found.items()}
        for key in ("learning_rate", "memory")
    )
    print(
        f"{options.stage}, {options.shape} shape, batch {options.batch}, {options.threads} threads, {options.rounds} rounds, ours: {options.ours}"
    )
    print("| | cai | TRL | ratio |\n|---|---|---|---|")
    print(
        f"| rows per second | {rates['cai']:.3g} | {rates['trl']:.3g} | {rates['cai'] / rates['trl']:.2f} |"
    )
    print(
        f"| peak memory, GB | {memory['cai']:.2f} | {memory['trl']:.2f} | {memory['cai'] / memory['trl']:.2f} |"
    )
    one_loss, other = found["cai"][0]["seen"], found["trl"][0]["seen"]
    print(
        f"losses (ppo: scores): cai {one_loss[0]:.4f} .. {one_loss[-1]:.4f}, TRL {other[0]:.4f} .. {other[-1]:.4f}; ",
        end="",
    )
    print(
        f"largest difference {max(abs(a - b) for a, b in zip(one_loss, other, strict=False)):.4f}"
    )


if __name__ == "__main__":
    main()
