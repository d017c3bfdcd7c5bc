"""Reasoning is told from the answer, whatever marks a model puts around it."""

import pytest

from cai.models.reasoning import reasoning_marks, split_reasoning

HARMONY = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>A"


@pytest.mark.parametrize("mark", reasoning_marks(), ids=lambda mark: mark.open)
def test_every_mark_of_the_table(mark):
    assert split_reasoning(f"{mark.open}\nB? No.\n{mark.close}\n\nA") == ("B? No.", "\n\nA")


@pytest.mark.parametrize("mark", [m for m in reasoning_marks() if not m.both], ids=lambda m: m.open)
def test_reasoning_that_never_ended_and_reasoning_that_the_prompt_opened(mark):
    assert split_reasoning(f"{mark.open}\nThe answer is B, or") == ("The answer is B, or", "")
    assert split_reasoning(f"The answer is B? No.{mark.close}A") == ("The answer is B? No.", "A")


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<THINK>Hm.</Think>A", "Hm.", "A"),
        ("\n<think>1</think>\n<think>2</think>A", "1\n\n2", "A"),
        ("<think>so <think>deep</think> down</think>A", "so <think>deep</think> down", "A"),
        (HARMONY, "Hm.", "A"),
        (f"<|start|>assistant{HARMONY}<|return|>", "Hm.", "A"),
        ("analysisWe look at both.assistantfinalA", "We look at both.", "A"),
        ("<think>Hm.</think><answer>\nA\n</answer>", "Hm.", "\nA\n"),
        ("<think></think>A", "", "A"),
    ],
)
def test_ways_to_write_it(text, reasoning, answer):
    assert split_reasoning(text) == (reasoning, answer)


@pytest.mark.parametrize(
    "text",
    [
        "Analysis of both replies: A is kinder.",
        "Put the steps between <think> and </think>.",
        "Here is my thought process: first, ask.",
        "I think </b>old text is fine.",
        "<answer>A</answer>",
        "",
    ],
)
def test_other_texts_stay_as_they_are(text):
    assert split_reasoning(text) == ("", text)
