"""Train with TRL's trainers on the rows, in the order and with the optimizer of cai's."""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

import torch
from bench_models import save_reward_model

LEARNING_RATE = 1e-5
BETAS = (0.9, 0.95)
EPS = 1e-5


def train_with_trl(
    options: argparse.Namespace, model: str, prompt_groups: list[Any]
) -> dict[str, Any]:
    """Train with TRL; return the times and the losses (ppo: scores) of the steps."""
    if options.stage == "ppo":
        return train_ppo_with_trl(options, model, prompt_groups)
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoTokenizer, TrainerCallback

    times: list[float] = []

    class Timer(TrainerCallback):
        def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
            times.append(time.perf_counter())

    trainer_class, config = trl_trainer(options)

    class InOrder(trainer_class):  # type: ignore[misc, valid-type]
        def _get_train_sampler(self, *_args: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

        def _prepare_dataset(self, dataset: Any, *_args: Any, **_kwargs: Any) -> Any:
            return dataset  # it is tokenized already

    loaded = load_start(options.stage, model)
    rows = [trl_row(options.stage, group) for group in in_cai_order(options, prompt_groups)]
    trainer = InOrder(
        model=loaded,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[Timer()],
        optimizers=cai_optimizer(loaded.parameters(), options.steps),
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {"times": times, "values": losses}


def trl_trainer(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return TRL's trainer class of the stage and its arguments."""
    import trl

    shared = {
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
    if options.stage == "sft":
        return trl.SFTTrainer, trl.SFTConfig(**shared)
    if options.stage == "reward":
        return trl.RewardTrainer, trl.RewardConfig(**shared, disable_dropout=True)
    config = trl.DPOConfig(**shared, precompute_ref_log_probs=True, beta=0.1)
    return trl.DPOTrainer, config


def trl_row(stage: str, prompt_group: Any) -> dict[str, list[int]]:
    """Return a tokenized pair in the columns of TRL's trainer of the stage."""
    prompt = prompt_group.prompt
    chosen, rejected = prompt_group.answers
    if stage == "sft":
        return {"input_ids": prompt + chosen, "labels": [-100] * len(prompt) + chosen}
    if stage == "reward":
        return {"chosen_ids": prompt + chosen, "rejected_ids": prompt + rejected}
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def in_cai_order(options: argparse.Namespace, prompt_groups: list[Any]) -> list[Any]:
    """Return the rows in the order in which cai trains on them."""
    from cai.train.batching import epoch_batches

    if options.stage == "sft":
        lengths = [len(group.prompt) + len(group.answers[0]) for group in prompt_groups]
    else:
        lengths = [group.size for group in prompt_groups]
    batches = epoch_batches(lengths, options.batch, 0, options.stage, 0)
    return [prompt_groups[row] for batch in batches for row in batch]


def load_start(stage: str, model: str) -> Any:
    """Load the model that a training starts from; for ``reward`` with the head that cai draws."""
    from transformers import AutoModelForCausalLM

    from cai.keys import seed_for
    from cai.models.scalar import load_scalar_model

    if stage == "reward":
        torch.manual_seed(seed_for(0, "reward head"))
        return load_scalar_model(model, new_head=True).model
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)


def cai_optimizer(parameters: Any, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """Return the optimizer and the schedule that cai uses."""
    warmup = max(1, round(0.05 * steps))
    optimizer = torch.optim.AdamW(
        parameters, lr=LEARNING_RATE, betas=BETAS, eps=EPS, weight_decay=0.0
    )

    def factor(step: int) -> float:
        decay = max(0.0, (steps - step) / max(1, steps - warmup))
        return min((step + 1) / warmup, decay)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train_ppo_with_trl(
    options: argparse.Namespace, model: str, prompt_groups: list[Any]
) -> dict[str, Any]:
    """Train a policy with TRL's PPO; return the times and the mean scores of the updates."""
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    times: list[float] = []
    scores: list[float] = []

    class Logged(PPOTrainer):  # type: ignore[misc]
        def log(self, logs: dict[str, float], *_args: Any) -> None:
            times.append(time.perf_counter())
            scores.append(logs["objective/scores"])

    def language_model() -> Any:
        return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)

    def scalar_model() -> Any:
        folder = save_reward_model(model)
        return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)

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
    trainer = Logged(
        args=config,
        processing_class=AutoTokenizer.from_pretrained(model),
        model=language_model(),
        ref_model=language_model(),
        reward_model=scalar_model(),
        value_model=scalar_model(),
        train_dataset=Dataset.from_list([{"input_ids": group.prompt} for group in prompt_groups]),
    )
    trainer.train()
    return {"times": times, "values": scores}
