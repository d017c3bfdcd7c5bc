"""Rows that name their raters are votes on a pair."""

import json

from cai.data.pairs import read_pairs
from cai.data.preferences import read_preferences


def row(rater, better="Hi!", worse="No.", **values):
    return {"prompt": "Hello", "chosen": better, "rejected": worse, "rater": rater, **values}


def read(tmp_path, *rows):
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path, read_preferences(path)


def test_the_label_is_the_share_of_the_votes(tmp_path):
    votes = [row("ann"), row("bo", "No.", "Hi!"), row("cy"), row("di", p_chosen=0.5)]
    _, file = read(tmp_path, *votes)
    assert [(p.comparison.first, p.p_first) for p in file.preferences] == [("Hi!", 0.625)]
    assert file.counts == {}


def test_the_better_answer_is_first_whoever_votes_first(tmp_path):
    _, file = read(tmp_path, row("bo", "No.", "Hi!"), *map(row, ("ann", "cy", "di")))
    assert [(p.comparison.first, p.p_first) for p in file.preferences] == [("Hi!", 0.75)]


def test_a_rater_votes_once_on_a_question(tmp_path):
    again = [row("ann"), row("ann", "No.", "Hi!"), row("ann", principle="harm/crime")]
    _, file = read(tmp_path, row("ann"), *again)
    assert file.counts == {"duplicate": 1, "contradicts an earlier row": 1}
    assert [p.p_first for p in file.preferences] == [1.0]


def test_what_kind_of_pair_it_is_is_kept(tmp_path):
    votes = row("bo", "No.", "Hi!", source="human"), row("ann", source="human"), row("cy")
    path, _ = read(tmp_path, *votes)
    assert list(read_pairs(path).subsets.values()) == [{"source": "human"}]
