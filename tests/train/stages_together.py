"""All four training stages on a little of everything; started by test_processes.py, alone and as two processes."""

import contextlib
import json
import os
import sys
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from cai import distributed
from cai.config import DPO, PPO, SFT, PPORollout, Reward, Training
from cai.records import Comparison, Preference, Prompt
from cai.train.dpo import train_dpo
from cai.train.ppo.trainer import train_ppo
from cai.train.reward.trainer import train_reward
from cai.train.sft import train_sft

THINGS = ("dog", "cat", "car", "van", "hen", "rose", "roof")
PROMPTS = [
    Prompt.of(f"How do I wash the {thing}{' and the boat and the letter' * (i % 3)}?")
    for i, thing in enumerate(THINGS)
]
ROWS = [(prompt, "Use soap and water. " * (1 + i % 4)) for i, prompt in enumerate(PROMPTS)]
ANSWERS = ("With soap.", "I cannot say that.", "Wash it twice and then check the boat.")
LABELS = [
    Preference(
        id=f"{i}{j}",
        comparison=Comparison.of(p, ANSWERS[j], ANSWERS[(j + 1) % 3]),
        p_first=(i % 3) / 2,
        source="x",
    )
    for i, p in enumerate(PROMPTS)
    for j in range(1 + i % 3)
]


def score(prompts, answers):
    return torch.tensor([float(sum(answer) % 7) for answer in answers])


def share_the_weights():
    """What ``accelerate launch --use_fsdp`` sets up on GPUs; on CPUs accelerate itself does not offer it."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    Accelerator()
    PartialState().distributed_type = DistributedType.FSDP
    AcceleratorState().fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap"
    )


def main(base, out, tokens, lora, sharded):
    if sharded == "sharded":
        share_the_weights()
    out, how = Path(out), Training(micro_batch_tokens=int(tokens), lora_rank=int(lora))
    rows, wrapped = [], set()
    prepare = Accelerator.prepare

    def seen(self, model, *rest):
        prepared = prepare(self, model, *rest)
        parts = [
            m for m in prepared[0].modules() if isinstance(m, FSDPModule | DistributedDataParallel)
        ]
        wrapped.update(
            "FSDPModule" if isinstance(part, FSDPModule) else type(part).__name__ for part in parts
        )
        wrapped.add(len(parts))
        return prepared

    Accelerator.prepare = seen

    def log(row):
        rows.append(
            {
                name: value
                for name, value in row.items()
                if name != "alarm" and not name.endswith("_seconds")
            }
        )

    def stopped_once(train):
        """Train, stop after the second step, and go on from the state that was kept."""

        def until_two(row):
            log(row)
            if row.get("step", row.get("update")) == 2:
                raise InterruptedError

        with contextlib.suppress(InterruptedError):
            train(log=until_two, save_every=0.0)
        return train(log=log)

    sft = partial(
        train_sft,
        ROWS,
        base,
        out / "sft",
        SFT(epochs=2, batch_size=3, learning_rate=1e-3),
        training=how,
    )
    metrics = {
        "sft": stopped_once(sft),
        "reward": train_reward(
            LABELS,
            base,
            out / "reward",
            Reward(epochs=2, batch_size=3, learning_rate=1e-3, eval_fraction=0.2),
            training=how,
            log=log,
        ),
        "dpo": train_dpo(
            LABELS,
            base,
            out / "dpo",
            DPO(epochs=2, batch_size=3, learning_rate=1e-3),
            training=how,
            log=log,
        ),
        "ppo": stopped_once(
            partial(
                train_ppo,
                PROMPTS,
                base,
                "",
                out / "ppo",
                PPO(
                    num_updates=3,
                    epochs=2,
                    num_minibatches=2,
                    learning_rate=1e-3,
                    value_learning_rate=1e-3,
                    rollout=PPORollout(batch_size=5, max_tokens=7),
                ),
                score=score,
                training=how,
            )
        ),
    }
    if distributed.is_main():
        (out / "said.json").write_text(
            json.dumps(
                {
                    "figures": metrics,
                    "rows": rows,
                    "processes": distributed.count(),
                    "wrapped": sorted(map(str, wrapped)),
                }
            )
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
