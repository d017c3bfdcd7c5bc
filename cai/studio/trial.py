"""Try a principle on examples: critique, revision and verdict by the run's own models."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from cai.backends.protocol import Model
from cai.backends.response_cache import ResponseCache
from cai.config import RunConfig
from cai.constitution import Constitution, Principle
from cai.errors import CaiError
from cai.feedback.requests import critique_request, revision_request
from cai.models.names import find_model, is_function, is_server
from cai.pipeline.feedback import labeler, method_of, reviser
from cai.pipeline.lock import LOCK
from cai.pipeline.run import CACHE, Run, base_of
from cai.records import Comparison, Preference, Prompt, Step
from cai.studio.examples import Example
from cai.studio.library import StudioRun, is_inside
from cai.studio.models import Models, feedback_model
from cai.templates import Templates, template_set

STAGE = "studio"
"""What the requests are counted for in the cache of the run."""


class Superseded(CaiError):
    """A newer version of the texts is waiting to be tried."""


class Outcome(NamedTuple):
    """What a principle makes of an example.

    Attributes:
        step: Critique and revision; None if it has no texts for that, or there is nothing to
            revise.
        label: The verdict: that the revision is better than the draft, or on the answers of a
            label. None if there is nothing to judge, or no text to judge by.
    """

    step: Step | None
    label: Preference | None


class Rendered(NamedTuple):
    """A text that a model reads.

    Attributes:
        title: What it asks for.
        text: The text.
    """

    title: str
    text: str


class Bench:
    """The models of a run, opened when they are first needed and kept.

    Args:
        run: The run.
    """

    def __init__(self, run: StudioRun) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._newest = 0
        self._models = Models()  # only who has the lock uses it

    def asked(self) -> list[str]:
        """The names of the models that are asked, each once."""
        config = self._run.config
        return list(dict.fromkeys([config.critic_model, *config.judge_models]))

    def is_free(self) -> bool:
        """Whether asking costs nothing and runs no code of the run's folder: models in here."""
        servers = self._run.config.servers
        return not any(is_server(name, servers) or is_function(name) for name in self.asked())

    def outcomes(
        self, versions: Sequence[tuple[Constitution, Principle]], examples: Sequence[Example]
    ) -> list[list[Outcome]]:
        """Try versions of a principle on examples.

        Args:
            versions: The versions, each with the constitution that has the other texts that models
                read.
            examples: The examples.

        Returns:
            For each version, an outcome for each example.

        Raises:
            Superseded: If a later call came while this one waited for its turn.
            CaiError: If a model cannot be asked, with the reason.
        """
        number = self._newest = next(self._numbers)
        with self._lock:
            if number != self._newest:
                raise Superseded("there is a newer version of the texts")
            with self._open() as run:
                names = [run.config.critic_model, *run.config.judge_models]
                critic, *judges = [
                    self._models.open(run, feedback_model(run, name), STAGE) for name in names
                ]
                return [_try(run.config, critic, judges, version, examples) for version in versions]

    @contextmanager
    def _open(self) -> Iterator[Run]:
        """Open the run with its response cache, which no other process may be working with."""
        folder = self._run.folder
        path = folder / CACHE
        if path.exists() and not is_inside(path, folder):
            path = Path(":memory:")
        try:
            with FileLock(folder / LOCK).acquire(timeout=0), ResponseCache(path) as cache:
                config, constitution = self._run.config, self._run.constitution
                yield Run(folder, config, constitution, cache, base_of(folder))
        except Timeout:
            text = "The run is going on; edits can be tried again when it has ended."
            raise CaiError(text) from None
        except OSError as error:
            raise CaiError(f"{folder}: {error.strerror}") from None


def can_revise(principle: Principle) -> bool:
    """Whether a principle has the texts to criticize and revise by."""
    return bool(principle.critique and principle.revise)


def can_judge(principle: Principle, method: str) -> bool:
    """Whether a principle has the text that a judge method asks.

    Args:
        principle: The principle.
        method: The name of the method.
    """
    return bool(principle.critique if method == "critique" else principle.compare)


def _try(
    config: RunConfig,
    critic: Model,
    judges: Sequence[Model],
    version: tuple[Constitution, Principle],
    examples: Sequence[Example],
) -> list[Outcome]:
    """What a version of a principle makes of examples."""
    constitution, principle = version
    outcomes: list[Outcome] = [Outcome(None, None)] * len(examples)
    # sets of prompts with principles of their own are shown other examples of revising
    kinds = dict.fromkeys(one.prompt.kind for one in examples)
    shots = {kind: constitution.few_shot_for(kind) for kind in kinds}
    for shown in dict.fromkeys(shots.values()):
        places = [i for i, one in enumerate(examples) if shots[one.prompt.kind] == shown]
        own = _only(constitution.model_copy(update={"few_shot": shown}), principle)
        chosen = [examples[i] for i in places]
        found = _outcomes(config, own, critic, judges, chosen)
        for i, outcome in zip(places, found, strict=True):
            outcomes[i] = outcome
    return outcomes


def _only(constitution: Constitution, principle: Principle) -> Constitution:
    """A constitution that draws one principle, whatever the set of the prompt."""
    principles = {**constitution.principles, principle.id: principle}
    weights = {use: {principle.id: 1.0} for use in constitution.weights}
    changed = {"principles": principles, "weights": weights, "prompt_sets": {}}
    return constitution.model_copy(update=changed)


def _outcomes(
    config: RunConfig,
    constitution: Constitution,
    critic: Model,
    judges: Sequence[Model],
    examples: Sequence[Example],
) -> list[Outcome]:
    """What the one principle that a constitution draws makes of examples."""
    (name,) = constitution.weights["revise"]
    principle = constitution.principles[name]
    steps: dict[str, Step] = {}
    if can_revise(principle):
        one_round = config.revise.model_copy(update={"rounds": 1})
        revise = reviser(config.model_copy(update={"revise": one_round}), constitution, critic)
        drafts = {one.sample.id: one.sample for one in examples if one.sample is not None}
        steps = {done.sample.id: done.steps[0] for done in revise(list(drafts.values()))}
    pairs = [_pair(one, steps) for one in examples]
    labels: dict[str, Preference] = {}
    if can_judge(principle, config.judge.method):
        judged = list({pair.id: pair for pair in pairs if pair is not None}.values())
        one_principle = config.judge.model_copy(update={"principles": None, "combine": "mean"})
        settings = config.model_copy(update={"judge": one_principle})
        found = labeler(settings, constitution, judges)(judged) if judged else []
        labels = {label.comparison.id: label for label in found}
    return [
        Outcome(
            steps.get(one.sample.id) if one.sample else None, labels.get(pair.id) if pair else None
        )
        for one, pair in zip(examples, pairs, strict=True)
    ]


def _pair(example: Example, steps: dict[str, Step]) -> Comparison | None:
    """What is judged of an example: its revision against its draft, or the answers of a label."""
    if example.sample is None:
        return example.comparison
    step = steps.get(example.sample.id)
    if step is None or step.status != "ok" or step.unchanged:
        return None
    return Comparison.of(example.prompt, step.revision, example.sample.response)


def rendered(
    run: StudioRun, constitution: Constitution, principle: Principle, prompt: Prompt
) -> list[Rendered]:
    """The texts that the models of a run read of a principle; no model is asked.

    Args:
        run: The run.
        constitution: The constitution, whose templates are used.
        principle: The principle.
        prompt: The prompt of the conversation.

    Raises:
        InputError: If a model of the run cannot be found.
    """
    config, texts = run.config, []
    critic = _templates(run, constitution, config.critic_model)
    worded = principle.worded_by(critic)
    if can_revise(worded):
        if not config.revise.direct:
            asked = critique_request(worded, prompt, critic).content
            texts.append(Rendered("the critic, for a critique", asked))
        asked = revision_request(worded, prompt, critic).content
        texts.append(Rendered("the critic, for a revision", asked))
    method = method_of(config.judge, constitution, config.seed)
    comparison = Comparison.of(prompt, "(the first answer)", "(the second answer)")
    for name in config.judge_models:
        judge = _templates(run, constitution, name)
        worded = principle.worded_by(judge)
        if can_judge(worded, config.judge.method):
            request = method.requests(comparison, worded, judge)[0]
            texts.append(Rendered("the judge", request.messages[-1].content))
    return list(dict.fromkeys(texts))


def _templates(run: StudioRun, constitution: Constitution, name: str) -> Templates:
    model = find_model(name, base_of(run.folder), run.config.servers)
    return Templates(template_set(model), constitution.templates)
