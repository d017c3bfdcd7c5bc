"""Published preferences with columns of their own say the same to every reader."""

import json

import pytest

from cai.data.choices import read_choices
from cai.data.demonstrations import read_demonstrations
from cai.data.pairs import read_pairs
from cai.data.preferences import read_preferences
from cai.errors import InputError

ASK = [{"role": "user", "content": "ask"}]
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("good", "bad"))
ARENA = {"winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0}
SUMMARIES = {"info": {"post": "ask"}, "summaries": [{"text": "bad"}, {"text": "good"}]}
ROWS = {
    "OpenAI": {
        "input": {"messages": ASK, "tools": []},
        "preferred_output": [GOOD],
        "non_preferred_output": [BAD],
    },
    "ms-swift": {"messages": [*ASK, GOOD], "rejected_response": "bad"},
    "LLaMA-Factory": {
        "conversations": [{"from": "human", "value": "ask"}],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    },
    "Axolotl": {"conversation": ASK, "chosen": GOOD, "rejected": BAD},
    "a list of one turn": {"context_messages": ASK, "chosen": [GOOD], "rejected": [BAD]},
    "NeMo": {"prompt": "ask", "chosen_response": "good", "rejected_response": "bad"},
    "NeMo ranks": {
        "context": ASK,
        "completions": [{"rank": 1, "completion": [BAD]}, {"rank": 0, "completion": [GOOD]}],
    },
    "SHP": {"history": "ask", "human_ref_A": "good", "human_ref_B": "bad", "labels": 1},
    "SHP, second": {"history": "ask", "human_ref_A": "bad", "human_ref_B": "good", "labels": 0},
    "WebGPT": {
        "question": {"dataset": "eli5", "full_text": "ask"},
        "answer_0": "bad",
        "answer_1": "good",
        "score_0": -0.5,
        "score_1": 0.5,
    },
    "summaries": {**SUMMARIES, "choice": 1},
    "Kaggle": {"prompt": '["ask"]', "response_a": '["bad"]', "response_b": '["good"]', **ARENA},
    "Kaggle, two turns": {
        "prompt": '["first", "ask"]',
        "response_a": '["said", "bad"]',
        "response_b": '["said", "good"]',
        **ARENA,
    },
    "HelpSteer": {
        "context": ASK,
        "response1": "bad",
        "response2": "good",
        "overall_preference": 2,
    },
    "scores": {"prompt": "ask", "responses": ["bad", "good"], "scores": [1, 9]},
    "ratings": {"instruction": "ask", "generations": ["good", "bad"], "ratings": [5.0, 1.0]},
    "ranks": {"prompt": "ask", "responses": ["bad", "good"], "ranks": [2, 1]},
    "accepted": {"input": "ask", "accepted": "good", "rejected": "bad"},
    "stack-exchange-paired": {"question": "ask", "response_j": "good", "response_k": "bad"},
    "UltraInteract": {
        "trajectory": [{"from": "user", "value": "ask"}],
        "chosen": "good",
        "rejected": "bad",
    },
}


def write(tmp_path, row):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


def better(preference):
    pair = preference.comparison
    return pair.first if preference.p_first == 1 else pair.second


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_reader_finds_the_same_better_answer(tmp_path, row):
    path = write(tmp_path, row)
    [preference] = read_preferences(path).preferences
    [gold] = read_pairs(path).gold
    [question] = read_choices(path).questions
    for label in (preference, gold):
        assert better(label) == "good"
        assert {label.comparison.first, label.comparison.second} == {"good", "bad"}
        assert "ask" in label.comparison.prompt.messages[-1].content
    assert [question.options[i] for i in question.correct] == ["good"]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "ask", "answer_0": "a", "answer_1": "b", "score_0": 0.0, "score_1": 0.0},
        {"prompt": "ask", "responses": ["a", "b"], "scores": [4, 4]},
        {"prompt": "ask", "response_1": "a", "response_2": "b", "preference_strength": 0},
        {"prompt": "ask", "model_a": "a", "model_b": "b", "winner": "both_bad"},
    ],
)
def test_ties_are_counted(tmp_path, row):
    file = read_preferences(write(tmp_path, row))
    assert not file.preferences
    assert file.counts == {"a tie": 1}


def test_a_verdict_that_is_missing_is_counted(tmp_path):
    row = {**ROWS["Kaggle"], "winner_model_b": 0}
    assert read_preferences(write(tmp_path, row)).counts == {"no answer is chosen": 1}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({**ROWS["scores"], "scores": [1]}, "has 2 responses and 1 scores"),
        ({**ROWS["scores"], "scores": [1, "high"]}, "scores must be a number"),
        ({**ROWS["Kaggle"], "prompt": "ask"}, "prompt must be a list of turns in JSON"),
        ({**ROWS["Kaggle"], "prompt": '["ask", "more"]'}, "has 2 prompts and 1 answers"),
        ({**ROWS["SHP"], "labels": "first"}, "p_first must be a probability"),
        ({**ROWS["WebGPT"], "score_0": None}, "score_0 must be a number"),
        ({**SUMMARIES, "choice": 4}, "choice must be 0 or 1"),
    ],
)
def test_values_that_say_nothing_are_named(tmp_path, row, says):
    for read in (read_preferences, read_pairs, read_choices):
        with pytest.raises(InputError, match=says):
            read(write(tmp_path, row))


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [*ASK, GOOD], "rejected": [*ASK, BAD]},
        {"prompt": "ask", "chosen": [*ASK, GOOD], "rejected": [*ASK, BAD]},
        {"prompt": "ask", "answers": [{"answer": "good", "rank": 1}, {"answer": "bad", "rank": 2}]},
        {"conversation_a": [*ASK, GOOD], "conversation_b": [*ASK, BAD], "winner": "a"},
    ],
)
def test_a_system_message_in_a_column_of_its_own_is_kept(tmp_path, row):
    [preference] = read_preferences(write(tmp_path, {**row, "system": "be kind"})).preferences
    turns = [turn.content for turn in preference.comparison.prompt.messages]
    assert (turns, better(preference)) == (["be kind", "ask"], "good")


def test_completions_with_scores_of_their_own_keep_them(tmp_path):
    completions = [{"response": "bad", "score": 1}, {"response": "good", "score": 2}]
    row = {"prompt": "ask", "completions": completions, "ratings": [9, 1]}
    [preference] = read_preferences(write(tmp_path, row)).preferences
    assert better(preference) == "good"


def test_conversations_of_other_tools_are_imitated(tmp_path):
    turns = [("human", "ask"), ("gpt", "good"), ("human", "more"), ("gpt", "again")]
    row = {"conversations": [{"from": who, "value": text} for who, text in turns]}
    read = read_demonstrations(write(tmp_path, row))
    assert [(len(prompt.messages), answer) for prompt, answer in read.rows] == [
        (1, "good"),
        (3, "again"),
    ]
