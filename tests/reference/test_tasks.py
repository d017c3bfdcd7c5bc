import random

from cai.reference import tasks
from cai.reference.build import cut, encode, schedule
from cai.reference.tokenizer import build_tokenizer, words


def test_every_word_of_the_world_is_one_token_and_text_round_trips():
    tokenizer = build_tokenizer()
    assert all(len(tokenizer(f" {w}", add_special_tokens=False).input_ids) == 1 for w in words())
    for text in ("To wash the dog, first make a plan.", "zxqy häßlich 漢字 🙂"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_only_learnt_turns_have_weight_and_their_end_is_learnt():
    tokenizer = build_tokenizer()
    row = [tasks.Turn("user", "Hello."), tasks.Turn("assistant", "Problem: slang.", 1.0, 4.0)]
    ids, weights = encode(row, tokenizer)
    learnt = [(tokenizer.decode([i]), w) for i, w in zip(ids, weights, strict=True) if w]
    assert learnt == [(" Problem", 4.0), (":", 1.0), (" slang", 1.0), (".", 1.0), ("<|end|>", 1.0)]
    rendered = tokenizer.apply_chat_template(
        [{"role": t.role, "content": t.content} for t in row], tokenize=False
    )
    assert tokenizer(rendered, add_special_tokens=False).input_ids == ids


def test_exercises_can_be_solved_from_what_is_read():
    rng = random.Random(0)
    vocabulary = sorted(words())
    for _ in range(300):
        row = tasks.exercise(rng, vocabulary)
        for question, answer in zip(row[::2], row[1::2], strict=True):
            if question.content.startswith("Repeat this: "):
                assert question.content == f"Repeat this: {answer.content}"
            elif question.content.startswith("Quote"):
                assert (
                    question.content.split()[-1].rstrip(".") in answer.content
                    and answer.content in row[1].content
                )
            else:
                assert (
                    question.content.split()[-1].rstrip(".")
                    not in answer.content.replace(".", " ").split()
                )


def test_judge_rows_cross_and_tie():
    rng = random.Random(0)
    rows = [tasks.comparison(rng, "train") for _ in range(600)]
    from cai.reference import rules

    broken = [
        [bool(rules.violations(p.attributes, request, reply)) for reply in (a, b)]
        for p, request, a, b in rows
    ]
    share = {
        pair: sum(b == list(pair) for b in broken) / len(broken)
        for pair in ((True, False), (False, True), (False, False))
    }
    assert abs(share[True, False] - share[False, True]) < 0.1 and share[False, False] > 0.07


def test_batches_keep_the_budget_and_the_rate_ends_at_zero():
    rows = [([0] * n, [0.0] * n) for n in range(5, 90)]
    batches = list(cut(rows, 512))
    assert sum(map(len, batches)) == len(rows) and all(
        len(b) * max(len(r[0]) for r in b) <= 512 for b in batches
    )
    assert (
        schedule(0, 10**7) < 0.01
        and schedule(10**6, 10**7) == 1.0
        and schedule(10**7, 10**7) == 0.0
    )


def test_the_shipped_tokenizer_is_the_one_that_is_built():
    from cai.models.load import load_tokenizer

    assert load_tokenizer("reference").get_vocab() == build_tokenizer().get_vocab()
