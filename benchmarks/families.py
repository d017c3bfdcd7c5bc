"""Take a tiny random model of every family through all that ``cai`` does with a model.

    python benchmarks/families.py [FAMILY ...] [--out docs/reference/families.md]

For each family of causal language models that transformers knows, a model with two small layers is
made from its config, saved with the tokenizer and the chat template of the reference model, and
sampled from, fine-tuned, made a reward model, trained with PPO and with DPO, and asked to judge.
Every number is compared with what plain transformers computes row by row. A family is *right*, or
it is *refused* with a line that says why; anything else is a fault, and the command fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import os
import resource
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import transformers
from tiny_families import FAMILIES, save_tiny
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from cai.backends.local import LocalBackend
from cai.backends.protocol import LoglikelihoodRequest, OptionLogprobs
from cai.config import DPO, PPO, SFT, PPORollout, Reward, Training
from cai.errors import CaiError
from cai.models.chat import open_chat
from cai.models.decode import decode
from cai.models.heads import Policy
from cai.models.load import load_language_model, load_tokenizer
from cai.models.packing.layout import PromptGroup, pack
from cai.models.packing.logits import next_token_logits
from cai.models.scalar import load_scalar_model
from cai.models.sequence_classes import is_made_here, sequence_class
from cai.records import Comparison, Message, Preference, Prompt
from cai.rl.losses import token_logprobs
from cai.train.dpo import train_dpo
from cai.train.options import TrainerOptions
from cai.train.ppo.trainer import train_ppo
from cai.train.reward.trainer import train_reward
from cai.train.sft import train_sft

MAX_ERROR = 2e-3
"""How far a log-probability or a score may be from the one that plain transformers computes."""
MAX_BYTES = 8 << 30
STORY = "The dog is in the garden. The boat is on the lake. The lamp is in the house. "
PROMPTS = [
    Prompt.of("Wash the dog."),
    Prompt.of(STORY + "Where is the dog?"),
    Prompt.of("Draw the boat, and then feed the dog."),
    Prompt.of(STORY + "Where is the lamp?"),
]
ANSWERS = ["I am glad to help.", "You are a fool. You are a fool. You are a fool."]
ROWS = [(prompt, answer) for prompt in PROMPTS for answer in ANSWERS]
PREFERENCES = [
    Preference(id=str(i), comparison=Comparison.of(p, *ANSWERS), p_first=1.0, source="human")
    for i, p in enumerate(PROMPTS)
]
OPTIONS = ("A", "B", "I am glad")


class Fault(Exception):
    """A result that is not what it must be."""


def must_be_near(found: object, expected: object, what: str, error: float = MAX_ERROR) -> None:
    """Compare numbers.

    Raises:
        Fault: If they are too far apart.
    """
    first, second = torch.as_tensor(found).float(), torch.as_tensor(expected).float()
    distance = (first - second).abs().max().item()
    if not distance <= error:  # also for a distance that is no number
        raise Fault(f"{what} off by {distance:.2g}")


# -- what plain transformers computes --------------------------------------------------------------


def plain_model(folder: Path) -> PreTrainedModel:
    """Open a saved language model without ``cai``."""
    model, loaded = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    if loaded["missing_keys"]:
        raise Fault(f"saved without {sorted(loaded['missing_keys'])[0]}")
    opened: PreTrainedModel = model.eval()
    return opened


@torch.no_grad()
def plain_logprobs(model: PreTrainedModel, prompt: list[int], answer: list[int]) -> Tensor:
    """Log-probabilities of the tokens of an answer, read by itself, ``[T]``."""
    ids = torch.tensor([prompt + answer])
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    places = logits[len(prompt) - 1 : -1].float().log_softmax(-1)
    return places.gather(1, torch.tensor(answer).unsqueeze(1)).squeeze(1)


def token_rows(folder: Path) -> list[tuple[list[int], list[int]]]:
    """The prompts and answers as tokens."""
    chat = open_chat(str(folder))
    return [chat.example(prompt.messages, answer) for prompt, answer in ROWS]


def groups_of(rows: Sequence[tuple[list[int], list[int]]]) -> list[PromptGroup]:
    """Every prompt with both of its answers."""
    both = zip(rows[::2], rows[1::2], strict=True)
    return [PromptGroup(prompt, [first, second]) for (prompt, first), (_, second) in both]


@torch.no_grad()
def packed_logprobs(model: PreTrainedModel, folder: Path) -> Tensor:
    """The log-probabilities of all answers as ``cai`` computes them in training."""
    packed = pack(model, groups_of(token_rows(folder)), open_chat(str(folder)).pad_id)
    return token_logprobs(next_token_logits(model, packed), packed.targets)


def check_saved(folder: Path, in_memory: Sequence[Tensor]) -> None:
    """Compare a saved policy with the one that was trained."""
    plain = plain_model(folder)
    rows = [plain_logprobs(plain, prompt, answer) for prompt, answer in token_rows(folder)]
    must_be_near(in_memory[-1], torch.cat(rows), "saved policy")


@contextlib.contextmanager
def watching(folder: Path) -> Iterator[list[Tensor]]:
    """Collect the log-probabilities of every policy at the moment it is saved."""
    found: list[Tensor] = []

    def watched(save: Callable[..., None]) -> Callable[..., None]:
        def saving(engine: Any, *others: Any) -> None:
            if isinstance(engine.unwrapped, Policy):
                found.append(packed_logprobs(engine.unwrapped.model.eval(), folder))
            save(engine, *others)

        return saving

    with contextlib.ExitStack() as stack:
        for module in ("cai.train.trainer", "cai.train.ppo.monitor"):
            save = getattr(sys.modules[module], "save")  # noqa: B009  (no name of its interface)
            stack.enter_context(mock.patch(f"{module}.save", watched(save)))
        yield found


# -- what cai does with a model --------------------------------------------------------------------


def check_sample(base: Path, work: Path) -> None:
    """Sampled answers have the log-probabilities of plain transformers, in batches too."""
    del work
    model, chat = load_language_model(str(base)).model, open_chat(str(base))
    prompts = [chat.ids(chat.prompt(prompt.messages)) for prompt in [*PROMPTS, PROMPTS[0]]]
    plain = plain_model(base)
    decoded = decode(
        model,
        prompts,
        max_tokens=24,
        temperature=1.0,
        seeds=range(len(prompts)),
        stops=chat.stops,
        pad_id=chat.pad_id,
    )
    for prompt, row in zip(prompts, decoded, strict=True):
        expected = plain_logprobs(plain, prompt, row.tokens)
        must_be_near(row.logprobs, expected, "log-probability of a sampled token")


def check_sft(base: Path, work: Path) -> None:
    """The first loss is that of the base; what is saved is what was trained."""
    steps: list[dict[str, Any]] = []
    options = TrainerOptions(training=Training(precision="float32"), log=steps.append)
    config = SFT(epochs=2, batch_size=len(ROWS), learning_rate=3e-3)
    with watching(base) as saved:
        train_sft(ROWS, base, work / "sft", config, options=options)
    plain = plain_model(base)
    rows = [plain_logprobs(plain, prompt, answer) for prompt, answer in token_rows(base)]
    losses = [step["loss"] for step in steps if "loss" in step]
    must_be_near(losses[0], -torch.cat(rows).mean(), "first loss of SFT")
    if not losses[-1] < losses[0]:
        raise Fault(f"SFT does not learn: {losses[0]:.3f} -> {losses[-1]:.3f}")
    check_saved(work / "sft", saved)


def check_reward(base: Path, work: Path) -> None:
    """The saved reward model gives the same scores to plain transformers, padded too."""
    config = Reward(batch_size=2, learning_rate=1e-3, eval_fraction=0.0)
    options = TrainerOptions(training=Training(precision="float32"))
    train_reward(PREFERENCES, base, work / "reward", config, options=options)
    scalar = load_scalar_model(str(work / "reward"))
    kind = sequence_class(scalar.model.config)
    plain = kind.from_pretrained(work / "reward", dtype=torch.float32).eval()
    rows = token_rows(work / "reward")
    packed = pack(scalar.model, groups_of(rows), scalar.chat.pad_id)
    found = score_of(scalar.model, packed)
    must_be_near(found, plain_scores(plain, [p + a for p, a in rows]), "score")
    # the class that other programs use
    if not is_made_here(plain):
        longest = max(len(p + a) for p, a in rows)
        pad = scalar.model.config.get_text_config().pad_token_id
        padded = torch.tensor([p + a + [pad] * (longest - len(p + a)) for p, a in rows])
        with torch.no_grad():
            logits = plain(input_ids=padded, attention_mask=(padded != pad).long()).logits
        must_be_near(found, logits[:, 0], "score of a padded text")


@torch.no_grad()
def plain_scores(model: Any, rows: Sequence[list[int]]) -> Tensor:
    """Scores of texts, each read by itself, ``[B]``."""
    if not is_made_here(model):
        rows_of_one = [torch.tensor([row]) for row in rows]
        return torch.stack([model(input_ids=row).logits[0, 0] for row in rows_of_one])
    texts = [torch.tensor([row]) for row in rows]
    hidden = [model.base_model(input_ids=t, use_cache=False)[0][0, -1] for t in texts]
    return torch.cat([model.score(state) for state in hidden])


@torch.no_grad()
def score_of(model: PreTrainedModel, packed: Any) -> Tensor:
    """Scores of packed answers before they are normalized."""
    from cai.models.scalar import answer_scores

    config: Any = model.config
    return answer_scores(model, packed) * config.reward_std + config.reward_mean


def check_ppo(base: Path, work: Path) -> None:
    """Before the first update the ratio is 1 and the KL is 0; what is saved is what was trained."""
    reward = work / "reward" if (work / "reward").exists() else None
    updates: list[dict[str, Any]] = []
    config = PPO(
        num_updates=1,
        epochs=1,
        learning_rate=1e-3,
        method="ppo" if reward else "rloo",
        rollout=PPORollout(batch_size=8, samples_per_prompt=2, max_tokens=24),
    )
    options = TrainerOptions(training=Training(precision="float32"), log=updates.append)
    score = None if reward else lengths_of
    with watching(base) as saved:
        train_ppo(
            PROMPTS, base, work / "ppo", config, reward_model=reward, score=score, options=options
        )
    first = next(row for row in updates if "ratio" in row)
    must_be_near(first["ratio"], 1.0, "ratio before the first update")
    must_be_near(first["kl"], 0.0, "KL before the first update")
    check_saved(work / "ppo", saved)


def lengths_of(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Tensor:
    """A reward for the families without a reward model."""
    del prompts
    return torch.tensor([float(len(answer)) for answer in answers])


def check_dpo(base: Path, work: Path) -> None:
    """The first loss is ln 2; what is saved is what was trained."""
    steps: list[dict[str, Any]] = []
    options = TrainerOptions(training=Training(precision="float32"), log=steps.append)
    config = DPO(epochs=2, batch_size=len(PREFERENCES), learning_rate=1e-3)
    with watching(base) as saved:
        train_dpo(PREFERENCES, base, work / "dpo", config, options=options)
    losses = [step["loss"] for step in steps if "loss" in step]
    must_be_near(losses[0], math.log(2), "first loss of DPO")
    if not losses[-1] < losses[0]:
        raise Fault(f"DPO does not learn: {losses[0]:.3f} -> {losses[-1]:.3f}")
    check_saved(work / "dpo", saved)


def check_judge(base: Path, work: Path) -> None:
    """Options after prompts that share a beginning score as they do alone."""
    del work
    backend, plain = LocalBackend(str(base)), plain_model(base)
    system = Message(role="system", content=STORY * 2)
    after_system = [(system, *prompt.messages) for prompt in PROMPTS * 2]
    requests = [LoglikelihoodRequest(turns, OPTIONS, whole=True) for turns in after_system]
    requests += [LoglikelihoodRequest(p.messages, OPTIONS[:2], whole=True) for p in PROMPTS]
    for number, response in backend.respond(requests):
        request = requests[number]
        if not isinstance(response, OptionLogprobs):
            raise Fault(f"no log-probabilities: {response}")
        prompt, options = backend.format.options(request.messages, request.options)
        expected = [plain_logprobs(plain, prompt, list(option)).sum() for option in options]
        must_be_near(response.logprobs, torch.stack(expected), "log-probability of an option")


CHECKS: dict[str, Callable[[Path, Path], None]] = {
    "sample": check_sample,
    "judge": check_judge,
    "sft": check_sft,
    "reward": check_reward,
    "ppo": check_ppo,
    "dpo": check_dpo,
}
"""The columns of the table."""


# -- all families ----------------------------------------------------------------------------------


class Result(NamedTuple):
    """What became of a family.

    Attributes:
        family: Its name.
        outcomes: For each check ``right``, ``refused: ...`` or ``fault: ...``; none if no tiny
            model could be made.
        note: Why there is no model, or how ``cai`` reads it.
    """

    family: str
    outcomes: dict[str, str]
    note: str = ""

    @property
    def is_faulty(self) -> bool:
        """Whether a result is wrong or ends in a traceback."""
        return any(outcome.startswith("fault") for outcome in self.outcomes.values())


def outcome_of(check: Callable[[Path, Path], None], base: Path, work: Path) -> str:
    """Do a check and say in one line what came of it."""
    try:
        check(base, work)
    except CaiError as error:
        lines = str(error).replace(f"{base}: ", "").replace(f"{work}/", "").strip().splitlines()
        return "refused: " + lines[0] if len(lines) == 1 else f"fault: {len(lines)} lines: {lines}"
    except Fault as fault:
        return f"fault: {fault}"
    except Exception as error:
        if os.environ.get("TRACEBACKS"):
            raise
        return f"fault: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return "right"


def try_family(family: str, checks: Sequence[str] = tuple(CHECKS)) -> Result:
    """Take a tiny model of a family through some checks."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        try:
            save_tiny(family, load_tokenizer("reference"), base)
        except Exception as error:  # noqa: BLE001  (a config that asks for what is not there)
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return Result(family, {}, lines[-1].strip())
        outcomes = {name: outcome_of(CHECKS[name], base, Path(folder)) for name in checks}
        return Result(family, outcomes, note_of(base))


def note_of(base: Path) -> str:
    """How ``cai`` reads a model that it cannot read the fastest way."""
    from cai.models.decoding_traits import decoding_traits
    from cai.models.packing.layout import supports_tree_attention

    try:
        model = load_language_model(str(base)).model
        traits = decoding_traits(model)
    except CaiError:
        return ""
    parts = [] if traits.is_fast else [str(traits)]
    if not supports_tree_attention(model):
        parts.append("answers read row by row")
    return "; ".join(parts)


def in_own_process(family: str, checks: Sequence[str]) -> Result:
    """Try a family in a process of its own, which may run out of memory or crash."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
        with os.fdopen(writing, "w") as pipe:
            json.dump(try_family(family, checks), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        written = pipe.read()
    _, status = os.waitpid(child, 0)
    if status or not written:
        return Result(family, {"sample": f"fault: the process died ({status})"})
    return Result(*json.loads(written))


def main() -> None:
    """Try families and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--out", type=Path, help="file to write the page to")
    parser.add_argument("--checks", nargs="*", default=list(CHECKS), choices=list(CHECKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    results = []
    for family in arguments.families or FAMILIES:
        result = in_own_process(family, arguments.checks)
        results.append(result)
        print(result.family, result.outcomes or "not made", result.note, file=sys.stderr)
    text = page(results, arguments.checks)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    if any(result.is_faulty for result in results):
        sys.exit(1)


def page(results: Sequence[Result], checks: Sequence[str]) -> str:
    """Write the page of the documentation."""
    tried = [result for result in results if result.outcomes]
    whole = sum(set(result.outcomes.values()) == {"right"} for result in tried)
    made = f"transformers {transformers.__version__}"
    skipped = ", ".join(f"`{result.family}`" for result in results if not result.outcomes)
    lines = [
        "# Families of models",
        "",
        f"A tiny random model of each of {len(tried)} families, made from its config in {made},",
        "was taken through all that `cai` does with a model. *right*: all numbers are those that",
        "plain transformers computes row by row (log-probabilities and scores within 0.002); PPO",
        "starts with a ratio of 1 and a KL of 0, DPO at ln 2; what is saved is what was trained.",
        "*refused*: one line says why, and nothing is computed. "
        f"{whole} families are right in everything.",
        "",
        "Where no reward model can be made, `ppo` is RLOO with a reward written in Python.",
        "",
        "`python benchmarks/families.py --out docs/reference/families.md` made this page.",
        "",
        f"| family | {' | '.join(checks)} | note |",
        "|---" * (len(checks) + 2) + "|",
    ]
    for result in tried:
        words = [result.outcomes[check].split(":")[0] for check in checks]
        reasons = [o.partition(": ")[2] for o in result.outcomes.values() if o != "right"]
        # the advice is the same for all
        notes = [note.partition(";")[0] for note in dict.fromkeys(reasons)]
        note = "; ".join([result.note, *notes] if result.note else notes).replace("|", "/")
        lines.append(f"| `{result.family}` | {' | '.join(words)} | {note} |")
    left_out = f"Not tried, as no tiny model of a text could be made: {skipped}."
    lines += ["", *textwrap.wrap(left_out, 100, break_on_hyphens=False), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
