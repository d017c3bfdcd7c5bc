"""``cai preview``: what a model would read."""

from __future__ import annotations

import fnmatch

from cai.constitution import load_constitution
from cai.errors import InputError, Problem, did_you_mean
from cai.feedback.judge_methods import comparison_request
from cai.feedback.revise import critique_request, revision_request
from cai.records import Comparison, Prompt


def preview_texts(constitution: str, pattern: str, prompt_text: str) -> None:
    """Print the critique, revision and judge requests of the matching principles."""
    loaded = load_constitution(constitution)
    names = fnmatch.filter(sorted(loaded.principles), pattern)
    if not names:
        raise InputError(
            [
                Problem(
                    pattern,
                    f"matches no principle of {constitution}{did_you_mean(pattern, loaded.principles)}",
                )
            ]
        )
    prompt = Prompt.of(prompt_text)
    comparison = Comparison.of(prompt, "<the first answer>", "<the second answer>")
    for name in names:
        principle = loaded.principles[name]
        uses = [
            f"{use} weight {loaded.weights[use][name]:g}"
            for use in ("revise", "judge")
            if name in loaded.weights[use]
        ]  # type: ignore[index]
        print(f"=== {name}: {principle.title} ({principle.hash}; {', '.join(uses)})")
        if principle.critique and principle.revise:
            print(f"--- critique request\n{critique_request(principle, prompt).content}")
            print(f"--- revision request\n{revision_request(principle, prompt).content}")
        if principle.compare:
            print(
                f"--- judge, by letters\n{comparison_request(comparison, principle, delimiters=True).content}"
            )
        print()
