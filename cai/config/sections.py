"""The run file: one frozen section per stage, checked before anything starts."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cai import shipped
from cai.cleaning import holds_secret
from cai.documents import Document, known_fields, load, model_at, problems_of
from cai.errors import InputError, Problem, did_you_mean

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
MAX_REPAIRS = 4
"""How often a file is validated again with its wrong settings at their defaults."""
Tracker = Literal[
    "aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"
]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Models(Section):
    """Which model plays which part: ``reference``, a model folder, a hub id, a server (``http://host:8000/v1#model``) or a function
    (``module:function``). Folders and modules are looked for beside the run file, then in the working folder."""

    initial: str = "reference"
    """The policy to start from; it answers first, and the trained policies grow out of it."""
    critic: str = ""
    """Writes critiques and revisions; the initial policy where empty."""
    judge: str = ""
    """Labels comparisons; the initial policy where empty."""
    reward: str = ""
    """The reward model grows out of it; out of the SL-CAI policy where empty. A folder or hub id, of any size and with any
    tokenizer."""
    chat_format: Literal["", "chat", "transcript", "plain"] = ""
    """Chat format of the policy; empty: the tokenizer's own template where it has one, else the transcript format."""
    enable_thinking: bool = False
    """Let critic and judge think aloud before they answer, where they can; a policy always answers at once."""

    @field_validator("initial", "critic", "judge")
    @classmethod
    def _no_secret(cls, name: str) -> str:
        if name.startswith(("http://", "https://")) and holds_secret(name.partition("#")[0]):
            raise ValueError(
                "holds a user, a password or a key; keep keys out of files and set OPENAI_API_KEY"
            )
        return name


class Prompts(Section):
    """JSON-lines files of ``{"prompt": text}`` or ``{"messages": [...]}``; relative to the run file."""

    red_team: str
    """Prompts that invite harm: their answers are criticised and revised."""
    benign: str
    """Prompts that should simply be helped with."""
    eval_red_team: str = ""
    """Prompts like ``red_team`` that nothing is trained on; the policies are compared on them."""
    eval_benign: str = ""
    """Likewise, like ``benign``."""
    red_team_limit: int = Field(default=0, ge=0)
    """How many of the prompts to use; 0 is all of them."""
    benign_limit: int = Field(default=0, ge=0)
    """Likewise."""
    eval_limit: int = Field(default=0, ge=0)
    """Likewise, of each of the two held-out files."""


class Sampling(Section):
    """How the initial policy answers."""

    temperature: NotNegative = 1.0
    """0 takes the likeliest token each time."""
    max_tokens: Count = 256
    """Of an answer."""


class Revise(Section):
    """How answers to red-team prompts are criticised and revised, and what of that is fine-tuned on."""

    rounds: Count = 4
    """Critiques and revisions of each answer, one after the other, each by a principle of its own."""
    direct: bool = False
    """Revise without a critique."""
    temperature: NotNegative = 1.0
    """Of critiques and revisions."""
    max_tokens: Count = 256
    """Of a critique or a revision."""
    rows: str = "final"
    """What to fine-tune on: final, all, or upto_<n>."""

    @field_validator("rows")
    @classmethod
    def _known_rows(cls, rows: str) -> str:
        if not re.fullmatch(r"final|all|upto_[1-9]\d*", rows):
            raise ValueError(f"must be final, all or upto_<n>, not {rows!r}")
        return rows


class Training(Section):
    """How every training stage works; none of it changes what is learnt, but for rounding and for LoRA."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the forward and backward passes; weights and their moments stay float32. auto: bfloat16 where the hardware is fast at it."""
    micro_batch_tokens: int = Field(default=0, ge=0)
    """Tokens of one pass on one process, padding counted; a batch that holds more is worked through in parts of like length, which
    add up to it. 0: 1,024 on a CPU, whose caches hold no more, 16,384 on an accelerator."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third more time."""
    lora_rank: int = Field(default=0, ge=0)
    """Train low-rank adapters of this rank instead of all weights; 0: all weights. Needs the ``lora`` extra."""
    lora_alpha: Positive = 16.0
    """Adapters count ``lora_alpha / lora_rank``."""
    lora_targets: tuple[str, ...] = ()
    """Names of the layers to adapt; empty: every linear layer of the trunk."""


class SFT(Section):
    """Supervised fine-tuning on the revisions."""

    epochs: Count = 2
    """Passes over the rows."""
    batch_size: Count = 32
    """Rows of a step."""
    learning_rate: Positive = 1e-5
    """Learning rate at its height, after a twentieth of the steps; it then falls to 0."""
    max_length: Count = 1024
    """Rows of more tokens are left out, and counted."""
    helpful: bool = True
    """Mix in the initial policy's own answers to benign prompts."""
    control: bool = True
    """Also train on those answers alone: what fine-tuning by itself does."""


class Compare(Section):
    """Which answers are held against each other."""

    samples: int = Field(default=2, ge=1)
    """Answers of the SL-CAI policy to each prompt."""
    initial_samples: int = Field(default=0, ge=0)
    """Answers of the initial policy that take part in the pairs."""
    pairs_per_prompt: Count = 1
    """Pairs of each prompt's answers, drawn where there are more."""
    temperature: NotNegative = 1.0
    """Of these answers."""
    max_tokens: Count = 256
    """Of an answer."""


class Judge(Section):
    """How comparisons are labelled."""

    method: Literal["option_logprobs", "critique", "sampled_votes", "chain_of_thought"] = (
        "option_logprobs"
    )
    """How a verdict is read: the probabilities of the letters A and B; of a critique of each answer; the share of sampled verdicts,
    short (votes) or reasoned."""
    principles: int = Field(default=1, ge=0)
    """Principles drawn per label; 0 is all of them."""
    combine: Literal["mean", "sum", "vote", "together"] = "mean"
    """How several principles make one label: the mean of their probabilities, the sum of what each says against an answer, a vote,
    or all in one question."""
    swap_positions: bool = True
    """Ask with the answers in both orders and take the mean, against bias of place."""
    delimiters: bool = True
    """Put the answers between marks they cannot know, and tell the judge that nothing there is meant for it."""
    samples: int = Field(default=0, ge=0)
    """Verdicts sampled in each order by votes and reasoned; 0 is the method's own number."""
    few_shot: int = Field(default=0, ge=0)
    """Worked verdicts before each question of letters and votes, from the principles' examples."""
    as_reward: bool = False
    """PPO optimises the judge's own rating of each answer (d-RLAIF) instead of the reward model's score."""
    rating_scale: Literal["critique", "digits"] = "critique"
    """How the judge rates one answer: by the odds that a critique finds a problem, or by digits from 1 to 9."""


class Audit(Section):
    """When labels are not fit to train on. Limits are held against the interval of a figure, not its point."""

    gate: bool = True
    """Stop the run where a limit is broken."""
    examples: bool = True
    """Put the constitution's own examples to the judge."""
    human_pairs: int = Field(default=0, ge=0)
    """How many of the human comparisons in ``reward.human`` to put to the judge; it must beat the best trivial baseline on them."""
    max_unscored: Share = 0.2
    """Share of the comparisons without a label."""
    max_near_ties: Share = 0.95
    """Share of labels near one half."""
    max_position_bias: Share = 0.2
    """How far from one half the share of wins of the answer that stands first may be."""
    max_longer_wins: Share = 0.9
    """Share of labels by which the longer answer is better."""
    max_adversarial_flips: Share = 0.5
    """Share of right verdicts on examples that turn when the worse answer is dressed up to win."""
    min_examples_accuracy: Share = 0.5
    """Share of the examples that the judge must get right; one half is a coin."""
    min_crossed_accuracy: Share = 0.25
    """Share of crossed examples of which it must get both right; one quarter is a coin."""


class Reward(Section):
    """The reward model, and the labels it is trained on."""

    epochs: Count = 1
    """Passes over the labels."""
    batch_size: Count = 32
    """Prompts of a step, each with all its comparisons."""
    learning_rate: Positive = 1e-5
    """Learning rate at its height."""
    max_length: Count = 1024
    """Labels with an answer of more tokens, its prompt included, are left out, and counted."""
    eval_fraction: Share = 0.1
    """Share of the prompts to keep back, with all their labels, to measure the model on."""
    min_margin: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Labels nearer to one half than this are not trained on: they cost as much as clear ones and teach little."""
    weight_by_prompt: bool = False
    """Let all prompts count alike, however many labels they have (arXiv 2203.02155), rather than all labels."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """How far labels are taken to be wrong by chance."""
    source_weights: dict[str, NotNegative] = {}
    """How much the labels of a source count, such as ``human: 2``; 1 where nothing is said."""
    length_control: bool = False
    """Take what length alone explains of the labels out of the score (a logistic fit, see ``length_coefficient`` in the figures)."""
    format_augmentation: Share = 0.0
    """Share of the prompts for which an answer and a dressed-up copy of it (bold, a list, said twice ...) are added as equally good."""
    ensemble_size: Count = 1
    """Reward models to train, alike but for their start and the order of the rows; where they differ, they guess."""
    ensemble_combine: Literal["mean", "min", "lower_confidence"] = "mean"
    """What PPO is told by several: their mean, the least, or the mean less their deviation."""
    human: tuple[str, ...] = ()
    """Files of human preferences to train on beside the AI ones, relative to the run file."""
    test_sets: tuple[str, ...] = ()
    """Files of pairs that are not trained on; each says in its ``source`` which cell it is of, such as ``benign / refuse``."""
    min_test_set_accuracy: Share = 0.0
    """Stop after the reward model where it orders less than this share of a cell rightly."""


class PPO(Section):
    """Policy optimisation against the reward, under a KL penalty."""

    num_updates: int = Field(default=100, ge=0)
    """0: no policy is trained this way."""
    batch_size: Count = 64
    """Answers of one update."""
    method: Literal["ppo", "rloo", "grpo"] = "ppo"
    """ppo: advantages by a value model (GAE). Without one, against the other answers to the same prompt: rloo, grpo."""
    samples: Count = 1
    """Answers to each prompt of an update; rloo and grpo need two or more."""
    critic: Literal["model", "head"] = "model"
    """What values the states: a model that starts as the reward model, or a second head on the policy."""
    epochs: Count = 4
    """Passes over the answers of an update."""
    num_minibatches: Count = 1
    """Steps of a pass."""
    learning_rate: Positive = 1e-6
    """Learning rate of the policy at its height."""
    value_learning_rate: Positive = 1e-5
    """Learning rate of the value model."""
    kl_coef: NotNegative = 0.05
    """Price of a nat of KL from the policy as it started."""
    adaptive_kl_target: Positive | None = None
    """Nats of KL per answer to which the price is driven; nothing: the price is fixed."""
    clip_range: Positive = 0.2
    """How far a token's probability may move, as a share, before its gradient is cut off; likewise values."""
    gamma: Share = 1.0
    """Discount per token."""
    gae_lambda: Share = 0.95
    """GAE's lambda: 1 is the whole return, 0 the next value alone."""
    temperature: Positive = 1.0
    """Of the answers, and of all log-probabilities."""
    max_tokens: Count = 256
    """Of an answer."""
    missing_eos_score: float | None = None
    """Score of an answer that did not end by itself, in place of its own; nothing: its own."""
    score_clip: Positive | None = None
    """Clip scores to this far from zero, and stop where their mean is beyond it; nothing: 10 deviations for reward models with
    normalised scores, such as those of ``cai reward``, and no clipping for any other score."""
    target_kl: Positive | None = None
    """Leave out what is left of an update's epochs when its mean squared log-ratio, halved, is beyond this."""
    ptx_coef: NotNegative = 0.0
    """Weight of the loss on fine-tuning rows that is added to keep what was learnt (PPO-ptx, arXiv 2203.02155)."""
    benign_fraction: Share = 0.5
    """Share of benign prompts; the others are red-team prompts."""

    @model_validator(mode="after")
    def _fits_together(self) -> PPO:
        if self.method != "ppo" and self.samples < 2:
            raise ValueError(
                f"{self.method} holds the answers to a prompt against each other: samples must be 2 or more"
            )
        if self.batch_size % self.samples:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of samples {self.samples}"
            )
        return self


class Constraint(Section):
    """A second reward, whose mean PPO holds at a bound while it raises the first."""

    model: str = ""
    """Its reward model, a folder or hub id; empty: nothing is held."""
    min: float = 0.0
    """The bound, in deviations of that model's training answers."""


class Monitor(Section):
    """What is looked at while PPO runs, and when it stops by itself."""

    eval_every: int = Field(default=0, ge=0)
    """Updates between two looks at held-out prompts: reward, KL and, where there is one, the gold figure; 0: none."""
    eval_prompts: Count = 64
    """Held-out prompts of a look."""
    judge: bool = False
    """Let the judge be gold: its rating of each held-out answer, from 0 to 1, in place of the gold function's."""
    keep: Literal["last", "best"] = "last"
    """Which policy to keep: the last, or that of the look with the best gold figure (the best reward where there is none)."""
    max_kl: Positive | None = None
    """Stop where the KL from the reference, in nats per answer, is beyond this."""
    min_entropy: NotNegative = 0.0
    """Stop where the entropy, in nats per token, is below this."""
    min_unique_fraction: Share = 0.0
    """Stop where fewer of an update's answers than this share differ: a policy that says one thing to all."""
    most_unread: Share = 0.5
    """Stop where more of an update's answers than this share have no score: a judge that cannot be read teaches nothing."""
    patience: Count = 3
    """Updates in a row for which a limit must be broken."""


class DPO(Section):
    """The road without a reward model, beside PPO or in its place (``ppo.num_updates: 0``)."""

    epochs: int = Field(default=0, ge=0)
    """0: no policy is trained this way."""
    batch_size: Count = 32
    """Prompts of a step, each with all its comparisons."""
    learning_rate: Positive = 1e-6
    """Learning rate at its height."""
    beta: Positive = 0.1
    """How dear it is to leave the policy as it started."""
    loss: Literal["dpo", "ipo"] = "dpo"
    """dpo: the logistic loss on summed log-probabilities; ipo: the squared one on their means."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """How far labels are taken to be wrong by chance (conservative DPO)."""
    max_length: Count = 1024
    """As in ``reward``."""


class Evaluate(Section):
    """How the policies are compared on held-out prompts."""

    temperature: NotNegative = 1.0
    """Of the answers to held-out prompts."""
    max_tokens: Count = 256
    """Of an answer."""
    gold: str = ""
    """``module:function`` that reads attributes off an answer; the reference world's checkers for the reference model."""


class RunConfig(Section):
    """A whole run. The file's own keys are these fields; every section has defaults except ``prompts``."""

    constitution: str
    """A constitution's file, relative to the run file, or its name: a file in the folder ``constitution/`` beside the run file or
    above it, else in that of the working folder, else one that ships with the package."""
    seed: int = 0
    """Of all draws."""
    trackers: tuple[Tracker, ...] = ()
    """Trackers of accelerate's that are told what training measures, beside ``log.jsonl``."""
    iterations: Count = 1
    """How often answers are compared, judged and optimised against: each further round begins with answers of the policy that the
    round before made, trains the reward model on the labels of all rounds, and optimises the SL-CAI policy anew."""
    models: Models = Models()
    prompts: Prompts
    sample: Sampling = Sampling()
    revise: Revise = Revise()
    training: Training = Training()
    sft: SFT = SFT()
    compare: Compare = Compare()
    judge: Judge = Judge()
    audit: Audit = Audit()
    reward: Reward = Reward()
    ppo: PPO = PPO()
    constraint: Constraint = Constraint()
    monitor: Monitor = Monitor()
    dpo: DPO = DPO()
    evaluate: Evaluate = Evaluate()

    @property
    def critic(self) -> str:
        return self.models.critic or self.models.initial

    @property
    def judge_model(self) -> str:
        return self.models.judge or self.models.initial


class Data(Section):
    """Files of the user's own, relative to the training file; docs/reference/data-formats.md says in which shapes."""

    demonstrations: tuple[str, ...] = ()
    """Answers to imitate, for ``cai sft``."""
    preferences: tuple[str, ...] = ()
    """Labelled comparisons, for ``cai reward`` and ``cai dpo``; their better answers, for ``cai sft`` where there are no
    demonstrations."""
    prompts: tuple[str, ...] = ()
    """For ``cai ppo``; those of the preferences where there are none."""
    limit: int = Field(default=0, ge=0)
    """Rows of each file to use; 0 is all of them."""


class TrainingConfig(Section):
    """One file for the stages on their own, without a constitution: ``cai sft``, ``cai reward``, ``cai ppo``, ``cai dpo``.

    Each stage writes to ``out/<stage>`` and starts from ``out/sft`` where that is there, else from ``model``.
    """

    model: str = "reference"
    """The model to start from: ``reference``, a model folder or hub id."""
    out: str
    """Folder for what is trained."""
    reward_model: str = ""
    """A reward model to optimise against, a folder or hub id; empty: that of ``cai reward``. It may read other tokens than the
    policy."""
    chat_format: Literal["", "chat", "transcript", "plain"] = ""
    """As ``models.chat_format`` in a run file."""
    seed: int = 0
    """Of all draws."""
    trackers: tuple[Tracker, ...] = ()
    """As in a run file."""
    data: Data = Data()
    training: Training = Training()
    sft: SFT = SFT()
    reward: Reward = Reward()
    ppo: PPO = PPO()
    constraint: Constraint = Constraint()
    monitor: Monitor = Monitor()
    dpo: DPO = DPO(epochs=1)


C = TypeVar("C", RunConfig, TrainingConfig)


class Parsed(NamedTuple, Generic[C]):
    """A run or training file as far as it can be read."""

    config: C | None
    """Wrong settings have their defaults here; None if not even that makes a config."""
    document: Document
    problems: list[Problem]


def load_config(path: Path, settings: Sequence[str] = ()) -> RunConfig:
    """Read a run file and apply ``--set a.b=value`` settings.

    Raises:
        InputError: with every unknown key, wrong type and wrong setting.
    """
    return _whole(parse_config(path, RunConfig, settings))


def load_training(path: Path, settings: Sequence[str] = ()) -> TrainingConfig:
    """Read a training file, likewise."""
    return _whole(parse_config(path, TrainingConfig, settings))


def parse_config(path: Path, kind: type[C], settings: Sequence[str] = ()) -> Parsed[C]:
    """Read a run or training file, with all that is wrong in it.

    Raises:
        InputError: if there is no such file, or it holds no keys at all.
    """
    if not path.exists():
        raise InputError([Problem(str(path), f"there is no such file{_example_hint(path)}")])
    document = load(path)
    if not isinstance(document.value, dict):
        raise InputError([Problem(document.where(), _NOT_KEYS[kind])])
    problems = [p for setting in settings if (p := _apply(document, setting, kind))]
    config: C | None = None
    try:
        config = kind.model_validate(document.value)
    except ValidationError as error:
        problems += problems_of(error, kind, document, ())
        config = _with_defaults(kind, document.value, error)
    return Parsed(config, document, problems)


_NOT_KEYS: dict[type[Section], str] = {
    RunConfig: "is not a run file: it must hold keys such as constitution: and prompts:",
    TrainingConfig: "is not a training file: it must hold keys such as out: and data:",
}


def _whole(parsed: Parsed[C]) -> C:
    if parsed.problems or parsed.config is None:
        raise InputError(parsed.problems)
    return parsed.config


def _example_hint(path: Path) -> str:
    shipped_too = (shipped.folder("examples") / path.name).is_file()
    return "; `cai init` copies the examples into a folder of yours" if shipped_too else ""


def _with_defaults(kind: type[C], value: dict[str, Any], error: ValidationError) -> C | None:
    """The config with a default in place of all that is wrong, so that the rest can be checked too.

    A required text that is missing becomes empty.
    """
    value = copy.deepcopy(value)
    for _ in range(MAX_REPAIRS):
        for detail in error.errors():
            loc = detail["loc"]
            instead: str | dict[str, Any] | None = None
            if detail["type"] == "missing":
                instead = "" if model_at(kind, loc) is None else {}
            _drop(value, loc, instead)
        try:
            return kind.model_validate(value)
        except ValidationError as again:
            error = again
    return None


def _drop(value: Any, loc: Sequence[str | int], instead: str | dict[str, Any] | None) -> None:
    """Take out what is at ``loc``, or put something there; a list with a wrong item goes whole."""
    for i, key in enumerate(loc[:-1]):
        if isinstance(loc[i + 1], int) or not isinstance(value.get(key), dict):
            loc = loc[: i + 1]
            break
        value = value[key]
    value.pop(loc[-1], None)
    if instead is not None:
        value[loc[-1]] = instead


def _apply(document: Document, setting: str, model: type[BaseModel]) -> Problem | None:
    """Put one ``a.b=value`` into the document's value."""
    name, equals, text = setting.partition("=")
    where = f"--set {name}"
    if not equals:
        return Problem(where, "must look like section.key=value")
    keys = name.split(".")
    for i, key in enumerate(keys):
        known = known_fields(model, tuple(keys[:i]))
        if key not in known:
            return Problem(
                where, f"there is no setting {'.'.join(keys[: i + 1])}{did_you_mean(key, known)}"
            )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return Problem(where, f"{text!r} is not valid YAML; put it in quotes")
    document.put(tuple(keys), value, where)
    return None


def round_folders(folder: Path, stage: str) -> list[Path]:
    """The folders of a stage of a run (``judge``, ``judge-2`` ...), one for each round that its config asks for.

    What an earlier config with more rounds has left behind is none of them.
    """
    path = folder / "config.yaml"
    rounds = int(load(path).value.get("rounds", 1)) if path.is_file() else 1
    return [
        folder / (stage if number == 1 else f"{stage}-{number}") for number in range(1, rounds + 1)
    ]
