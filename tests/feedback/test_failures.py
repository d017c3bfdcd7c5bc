"""What a server cannot or will not answer: it is in the records, with the reason, and nothing is built on it."""

import pytest

from cai.backends.protocol import Completion, LoglikelihoodRequest, OptionLogprobs
from cai.backends.response_cache import ResponseCache
from cai.constitution.schema import Constitution, Principle
from cai.feedback.judge import judge
from cai.feedback.judge_methods import CritiqueOdds, PairwiseLogprobs
from cai.feedback.revise import revise, training_rows
from cai.feedback.sample import sample
from cai.feedback.sampled_verdicts import ChainOfThought, SampledVotes
from cai.records import Comparison, Prompt

CONSTITUTION = Constitution(
    name="t",
    title="t",
    principles={
        "x": Principle(
            id="x", title="x", critique="Find x.", revise="Less x.", compare="Which has less x?"
        )
    },
    weights={"revise": {"x": 1.0}, "judge": {"x": 1.0}},
)
PROMPT = Prompt.of("How do I mend the bike?")
PAIR = Comparison.of(PROMPT, "good advice", "bad advice")
BAD = {
    "failed": Completion("", "failed", 0, 0, "500 oops"),
    "filtered": Completion("", "filtered", 5, 0, "finish_reason 'content_filter'"),
    "too_long": Completion(
        "",
        "too_long",
        9000,
        0,
        "prompt of 9000 tokens + 64 for the answer is beyond the model's context of 8192",
    ),
    "truncated": Completion("It is", "length", 5, 64),
    "empty": Completion(" ", "stop", 5, 0),
}
REASONS = {
    status: answer.reason or ("cut at max_tokens=64" if status == "truncated" else "")
    for status, answer in BAD.items()
}


class Server:
    """Answers by the kind of call; ``log`` holds the kinds it was cached_model for, in order."""

    fingerprint = "server"

    def __init__(self, **answers):
        self.given, self.log = answers, []

    def render(self, request):
        return repr(request.messages)

    def respond(self, requests):
        for i, request in enumerate(requests):
            last = request.messages[-1].content
            kind = (
                "choice"
                if isinstance(request, LoglikelihoodRequest)
                else "critique"
                if "Find x" in last
                else "revision"
                if "Less x" in last
                else "verdict"
                if "Which has" in last
                else "draft"
            )
            self.log.append(kind)
            answer = self.given.get(kind, Completion(f"a {kind}", "stop", 1, 1))
            yield i, answer.pop(0) if isinstance(answer, list) else answer


def cached_model(server):
    return ResponseCache(":memory:").cached_model(server)


@pytest.mark.parametrize("status", BAD)
def test_sample_keeps_failures_with_a_reason(status):
    (draft,) = sample([PROMPT], cached_model(Server(draft=BAD[status])), max_tokens=64)
    assert (draft.status, draft.reason) == (status, REASONS[status])


@pytest.mark.parametrize("status", BAD)
def test_revise_stops_a_round_after_a_failed_critique(status):
    server = Server(critique=BAD[status])
    model = cached_model(server)
    (revision,) = revise(
        sample([PROMPT], model, max_tokens=64), CONSTITUTION, model, rounds=2, max_tokens=64
    )
    assert server.log == ["draft", "critique", "critique"]
    for step in revision.steps:
        assert step.status == status and step.revision == "a draft" and step.unchanged
        assert step.reason == (f"critique: {REASONS[status]}" if REASONS[status] else "")
    assert revision.final == "a draft" and training_rows([revision], "all") == []


@pytest.mark.parametrize("status", BAD)
def test_revise_records_a_failed_revision(status):
    model = cached_model(Server(revision=BAD[status]))
    (revision,) = revise(
        sample([PROMPT], model, max_tokens=64), CONSTITUTION, model, rounds=1, max_tokens=64
    )
    assert (revision.steps[0].status, revision.steps[0].critique, revision.steps[0].revision) == (
        status,
        "The last reply a critique",
        "a draft",
    )
    assert revision.steps[0].reason == (f"revision: {REASONS[status]}" if REASONS[status] else "")


def test_revise_goes_on_for_samples_with_a_critique():
    prompts = [Prompt.of(f"question {i}") for i in range(3)]
    good = Completion("a critique", "stop", 1, 1)
    server = Server(critique=[good, BAD["filtered"], good, good, good, good])
    model = cached_model(server)
    revisions = revise(sample(prompts, model), CONSTITUTION, model, rounds=2)
    assert [[step.status for step in r.steps] for r in revisions] == [
        ["ok", "ok"],
        ["filtered", "ok"],
        ["ok", "ok"],
    ]
    assert [r.final for r in revisions] == ["a revision"] * 3 and server.log.count("revision") == 5


def test_a_reason_is_no_part_of_an_id():
    def revision(note):
        model = cached_model(Server(critique=Completion("", "failed", 0, 0, note)))
        return revise(sample([PROMPT], model), CONSTITUTION, model, rounds=1)[0]

    assert (
        revision("500 request 17").id == revision("500 request 18").id
        and revision("500 request 17").steps[0].reason == "critique: 500 request 17"
    )


@pytest.mark.parametrize("method", [PairwiseLogprobs(), CritiqueOdds()])
def test_judge_records_filtered_responses(method):
    filtered = OptionLogprobs((float("nan"),) * 2, 7, "filtered", reason="content policy")
    (label,) = judge([PAIR], CONSTITUTION, cached_model(Server(choice=filtered)), method)
    assert (
        label.status == label.judgments[0].status == "filtered"
        and label.reason == label.judgments[0].reason == "2 of 2 answers filtered (content policy)"
    )
    unread = OptionLogprobs((float("nan"),) * 2, 7)
    (label,) = judge([PAIR], CONSTITUTION, cached_model(Server(choice=unread)), method)
    assert (
        label.judgments[0].reason == "2 of 2 answers without a probability for any of the options"
    )


def test_sampled_votes_count_failures_by_kind():
    good, cut = (
        Completion("The answer is A", "stop", 1, 1),
        Completion("I think that", "length", 1, 16),
    )
    server = Server(verdict=[good, cut, BAD["failed"], good, good, Completion("Hm.", "stop", 1, 1)])
    (label,) = judge([PAIR], CONSTITUTION, cached_model(server), SampledVotes(samples=3))
    expected = "1 of 6 answers truncated (cut at max_tokens=16); 1 of 6 answers failed (500 oops); 1 of 6 answers without a verdict"
    assert label.p_first == 0.5 and label.judgments[0].reason == expected
    (label,) = judge(
        [PAIR], CONSTITUTION, cached_model(Server(verdict=cut)), ChainOfThought(max_tokens=32)
    )
    assert (
        label.status == "truncated"
        and label.judgments[0].reason == "2 of 2 answers truncated (cut at max_tokens=32)"
    )


def test_a_good_answer_has_no_reason():
    server = Server(
        choice=OptionLogprobs((-0.1, -2.0), 7), verdict=Completion("The answer is A", "stop", 1, 1)
    )
    model = cached_model(server)
    (draft,) = sample([PROMPT], model)
    (revision,) = revise([draft], CONSTITUTION, model, rounds=1)
    labels = [
        judge([PAIR], CONSTITUTION, model, method)[0]
        for method in (PairwiseLogprobs(), CritiqueOdds(), SampledVotes())
    ]
    assert {
        draft.reason,
        revision.steps[0].reason,
        *(label.judgments[0].reason for label in labels),
    } == {""}


def test_texts_of_any_backend_hold_no_lone_surrogate(tmp_path):
    odd = Completion("a \ud800 draft", "stop", 1, 1, reason="\ud800", reasoning="hm \ud800")
    for _ in range(2):  # from the backend, and from the memo
        with ResponseCache(tmp_path / "responses.sqlite") as cache:
            model = cache.cached_model(Server(draft=odd, revision=odd))
            (draft,) = sample([Prompt.of("How \ud800?")], model)
            (revision,) = revise([draft], CONSTITUTION, model, rounds=1)
        assert (draft.response, draft.reasoning, draft.prompt.text) == (
            "a \ufffd draft",
            "hm \ufffd",
            "How \ufffd?",
        )
        assert revision.final == "a \ufffd draft" and revision.model_dump_json().encode()


def test_texts_of_records_hold_no_lone_surrogate():
    pair = Comparison.of(PROMPT, "a \ud800", "b")
    assert (
        pair == Comparison.of(PROMPT, "a \ufffd", "b")
        and pair.id == Comparison.of(PROMPT, "a \ufffd", "b").id
    )
    assert Principle(id="x", title="x", critique="Find \ud800.").critique == "Find \ufffd."


def test_the_report_counts_failed_and_filtered_answers():
    from cai.report.report_data import problems

    model = cached_model(Server(critique=BAD["failed"]))
    revisions = revise(sample([PROMPT], model), CONSTITUTION, model, rounds=2)
    assert problems(
        {"stages": {"sample": {"samples": 14, "failed": 12, "filtered": 2}}}, revisions, []
    ) == [
        "2 revision steps failed; the previous reply was kept.",
        "sample: 12 failed.",
        "sample: 2 filtered.",
    ]
