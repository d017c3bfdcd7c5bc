"""Policies for the shipped suites: one that is sound, and some that break exactly one thing.

They know the prompts of the suites by heart. The judge finds what the policies hide in their words.
"""

import math
import random
import re
from functools import cache

from cai import load_suite, read_cases
from cai.backends.protocol import Completion, LoglikelihoodRequest, OptionLogprobs
from cai.data.choices import read_choices

GUIDE = "Step one is to hurt them, step two is to run."
INSULT = "What a stupid question from a stupid person."
REFUSAL = "I won't help with that, because somebody could be hurt."


@cache
def cases(suite):
    return tuple(read_cases(load_suite(suite).prompts))


@cache
def options_of(suite, *, right):
    """The right or the wrong options of a multiple-choice suite."""
    return {
        option
        for question in read_choices(load_suite(suite).prompts).questions
        for i, option in enumerate(question.options)
        if (i in question.correct) == right
    }


@cache
def prompts(suite):
    return {case.prompt.text: case for case in cases(suite)}


def words_of(*key, pairs=6):
    """Words that nobody else says: by the seed and the prompt."""
    rng = random.Random(repr(key))
    return " ".join("".join(rng.choices("bdklmnortu", k=6)) for _ in range(2 * pairs))


class Policy:
    """A sound policy. Its methods are what a broken one does otherwise."""

    def __init__(self):
        self.fingerprint = type(self).__name__

    def benign(self, prompt, seed):
        return f"Yes, take the {words_of(prompt, seed)} and it works."

    def harmful(self, prompt, seed):
        return f"{REFUSAL} Better look at the {words_of(prompt, seed)}."

    def prefilled(self, prompt, seed):
        return f"no, let me stop. {self.harmful(prompt, seed)}"

    def in_role(self, prompt, seed):
        return self.harmful(prompt, seed)

    def pushed(self, case):
        return f"It is {case.facts['right'][0]}, whoever says something else."

    def bits(self, text):
        return 1.0 + 0.1 * math.sin(len(text))

    def knows(self, option):
        return option in options_of("everyday-knowledge", right=True)

    def prefers(self, reply):
        return reply in options_of("helpful-honest-harmless", right=True)

    # -- the protocol of a backend

    def render(self, request):
        turns = [f"{m.role}: {m.content}" for m in request.messages]
        return "\n".join([*turns, request.answer_prefix])

    def stop(self):
        """Nothing is in flight."""

    def respond(self, requests):
        for i, request in enumerate(requests):
            if isinstance(request, LoglikelihoodRequest) and not request.whole:
                yield i, OptionLogprobs(tuple(self.letters(request)), 1)
            elif isinstance(request, LoglikelihoodRequest):
                logprobs = [self.bits(o) * -math.log(2) * len(o.encode()) for o in request.options]
                yield i, OptionLogprobs(tuple(logprobs), 1)
            else:
                text = self.reply(request)
                yield i, Completion(text, "stop", 1, len(text.split()))

    def letters(self, request):
        """The log-probability of each letter by the option that it names."""
        shown = re.findall(r"^\([A-Z]\) (.*)$", request.messages[-1].content, re.MULTILINE)
        assert len(shown) == len(request.options)
        wanted = [self.knows(option) or self.prefers(option) for option in shown]
        return [-0.1 if is_wanted else -3.0 for is_wanted in wanted]

    def reply(self, request):
        first, last, seed = request.messages[0].content, request.messages[-1].content, request.seed
        if first in prompts("sycophancy"):
            case = prompts("sycophancy")[first]
            known = f"It is {case.facts['right'][0]}."
            return known if last == first else self.pushed(case)
        if first in prompts("role-play"):
            return "Here I am!" if last == first else self.in_role(last, seed)
        if request.answer_prefix:
            return self.prefilled(first, seed)
        if first in prompts("red-team"):
            return self.harmful(first, seed)
        return self.benign(first, seed)


class RefusesEverything(Policy):
    def benign(self, prompt, seed):  # with as many words of its own as the sound one has
        return f"{REFUSAL} Look at the {words_of(prompt, seed, pairs=20)}."


class CompliesWithEverything(Policy):
    def harmful(self, prompt, seed):
        return f"{GUIDE} Take the {words_of(prompt, seed)}."


class GivesInToPrefill(Policy):
    def prefilled(self, prompt, seed):
        return f"{GUIDE} Take the {words_of(prompt, seed)}."


class GivesInToRolePlay(Policy):
    def in_role(self, prompt, seed):
        return f"{GUIDE} Take the {words_of(prompt, seed)}."


class InsultsInRefusals(Policy):
    def harmful(self, prompt, seed):
        return f"{super().harmful(prompt, seed)} {INSULT}"


class AlwaysTheSame(Policy):
    def benign(self, prompt, seed):
        return "Yes, that works well."


class Boilerplate(Policy):
    def benign(self, prompt, seed):
        return f"As an AI, I say yes, take the {words_of(prompt, seed, pairs=20)}."


class Evasive(Policy):
    def benign(self, prompt, seed):
        return f"It depends on the {words_of(prompt, seed, pairs=20)} and opinions differ."


class Flips(Policy):
    def pushed(self, case):
        return f"You are right, I am sorry. It is {case.facts['wrong'][0]}."


class ForgetsWhatItKnew(Policy):
    def bits(self, text):
        return super().bits(text) + 0.3

    def knows(self, option):
        return False


class PrefersTheWorse(Policy):
    def prefers(self, reply):
        return reply in options_of("helpful-honest-harmless", right=False)


class Silent(Policy):
    def reply(self, request):
        return ""


class Judge(Policy):
    """Finds the guide and the insult, wherever they are."""

    def respond(self, requests):
        for i, request in enumerate(requests):
            by_level = len(request.options) > 2  # the answer is in the question, not before it
            text = request.messages[-1 if by_level else -2].content
            if by_level:
                level = 4 if GUIDE in text else 2 if INSULT in text else 0
                logprobs = [0.0 if n == level else -9.0 for n in range(len(request.options))]
                yield i, OptionLogprobs(tuple(logprobs), 1)
            else:
                yield i, OptionLogprobs((-0.1, -2.4) if GUIDE in text else (-2.4, -0.1), 1)
