"""Arguments of the Python API that cannot be used are refused in one line that names them."""

import pytest

import cai
from cai.backends.scripted import ScriptedBackend
from cai.constitution.schema import Constitution, Principle
from cai.errors import ArgumentError, InputError
from cai.records import Comparison, Message, Prompt

NAMES = ("x", "y", "z")
LAW = Constitution(
    name="t",
    title="t",
    principles={
        n: Principle(
            id=n,
            title=n,
            critique=f"Find {n}.",
            revise=f"Less {n}.",
            compare=f"Which has less {n}?",
        )
        for n in NAMES
    },
    weights={"revise": dict.fromkeys(NAMES, 1.0), "judge": dict.fromkeys(NAMES, 1.0)},
)
EMPTY = LAW.without(*NAMES)
PROMPT = Prompt.of("How do I mend the bike?")
PAIR = Comparison.of(PROMPT, "good", "bad")


@pytest.fixture
def model():
    with cai.ResponseCache(":memory:") as cache:
        yield cache.cached_model(
            ScriptedBackend(
                lambda messages, seed: "The answer is A",
                lambda messages, options: (0.0,) * len(options),
            )
        )


@pytest.fixture
def drafts(model):
    return cai.sample([PROMPT], model)


def refused(says, call, *args, **options):
    with pytest.raises(ValueError) as caught:
        call(*args, **options)
    assert isinstance(caught.value, InputError | ArgumentError) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(says), str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": -1}, "temperature: must be a number of at least 0, not -1"),
        ({"temperature": float("nan")}, "temperature:"),
        ({"temperature": "hot"}, "temperature:"),
        ({"max_tokens": 0}, "max_tokens: must be a whole number of at least 1, not 0"),
        ({"max_tokens": -5}, "max_tokens:"),
        ({"max_tokens": 1.5}, "max_tokens:"),
        ({"n": 0}, "n:"),
        ({"n": True}, "n:"),
    ],
)
def test_sample(model, options, says):
    refused(says, cai.sample, [PROMPT], model, **options)


def test_sample_takes_prompts_and_a_memo(model):
    refused("prompts[1]: must be a Prompt, not str", cai.sample, [PROMPT, "How?"], model)
    refused("prompts: must be a list of Prompt records, not str", cai.sample, "How?", model)
    refused("prompts: must be a list", cai.sample, PROMPT, model)
    refused(
        "model: must come from ResponseCache(path).cached_model(backend), not ScriptedBackend",
        cai.sample,
        [PROMPT],
        ScriptedBackend(),
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rounds": -1}, "rounds:"),
        ({"temperature": -1}, "temperature:"),
        ({"max_tokens": 0}, "max_tokens:"),
    ],
)
def test_revise(model, drafts, options, says):
    refused(says, cai.revise, drafts, LAW, model, **options)


def test_revise_needs_a_constitution_with_principles(model, drafts):
    refused("constitution: must be a Constitution", cai.revise, drafts, "harmless", model)
    refused(
        "constitution: the constitution 't' has no principles to revise by",
        cai.revise,
        drafts,
        EMPTY,
        model,
    )
    refused("samples[0]: must be a Sample, not Prompt", cai.revise, [PROMPT], LAW, model)


def test_training_rows(model, drafts):
    refused(
        "rows: must be final, all, or upto_<n>",
        cai.training_rows,
        cai.revise(drafts, LAW, model, rounds=1),
        "upto_0",
    )
    refused(
        "rows: must be final", cai.training_rows, cai.revise(drafts, LAW, model, rounds=1), "last"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"combine": "avg"}, "combine: must be one of mean, sum, vote, together, not 'avg'"),
        ({"principles": -1}, "principles:"),
        (
            {"principles": 99},
            "principles: must be at most 3, the number of principles that 't' has to judge by, not 99",
        ),
        ({"principles": 1.5}, "principles:"),
    ],
)
def test_judge(model, options, says):
    refused(says, cai.judge, [PAIR], LAW, model, cai.PairwiseLogprobs(), **options)


def test_a_method_is_an_object_or_a_name(model):
    assert cai.judge([PAIR], LAW, model, "option_logprobs") == cai.judge(
        [PAIR], LAW, model, cai.PairwiseLogprobs(delimiters=True)
    )
    refused(
        "method: must be one of option_logprobs, critique, sampled_votes, chain_of_thought, not 'critque' (did you mean",
        cai.judge,
        [PAIR],
        LAW,
        model,
        "critque",
    )
    refused(
        "method: must be one of option_logprobs, critique, sampled_votes, chain_of_thought or an object such as PairwiseLogprobs(), not the class PairwiseLogprobs",
        cai.judge,
        [PAIR],
        LAW,
        model,
        cai.PairwiseLogprobs,
    )
    refused("method: must be", cai.judge, [PAIR], LAW, model, 7)
    refused(
        "comparisons[0]: must be a Comparison",
        cai.judge,
        [PROMPT],
        LAW,
        model,
        cai.PairwiseLogprobs(),
    )
    refused(
        "constitution: the constitution 't' has no principles to judge by",
        cai.judge,
        [PAIR],
        EMPTY,
        model,
        cai.PairwiseLogprobs(),
    )


def test_rate(model):
    refused(
        "principles: must be at most 3", cai.rate, [(PROMPT, "good")], LAW, model, principles=99
    )
    refused(
        "scale: must be one of critique, digits, not 'stars'",
        cai.rate,
        [(PROMPT, "good")],
        LAW,
        model,
        scale="stars",
    )


def test_rank(model):
    refused(
        "answers: two answers are the same",
        cai.rank,
        PROMPT,
        ["a", "a"],
        LAW,
        model,
        "sampled_votes",
    )
    refused("answers: is empty", cai.rank, PROMPT, [], LAW, model, "sampled_votes")
    refused("combine:", cai.rank, PROMPT, ["a", "b"], LAW, model, "sampled_votes", combine="avg")


def test_compare(drafts):
    refused("samples: must map names of models", cai.compare, drafts)
    refused("pairs_per_prompt: must be", cai.compare, {"m": drafts}, pairs_per_prompt=0)


@pytest.mark.parametrize("kind", [cai.SampledVotes, cai.ChainOfThought])
def test_methods(kind):
    refused("samples:", kind, samples=0)
    refused("temperature:", kind, temperature=-1)
    refused("max_tokens:", kind, max_tokens=0)


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ("", "prompt: is empty"),
        (" \n", "prompt: is empty"),
        ((), "prompt: must end with a user turn"),
        (7, "prompt: must be a text"),
        ([Message(role="assistant", content="Hello")], "prompt: must end with a user turn"),
        (["Hi"], "prompt: contains an invalid message"),
        ([Message(role="user", content=" ")], "prompt: is empty"),
        ([{"role": "boss", "content": "Hi"}], "prompt: contains an invalid message"),
    ],
)
def test_prompts(messages, says):
    refused(says, Prompt.of, messages)


def test_a_prompt_is_made_of_messages_in_any_list():
    assert (
        Prompt.of([{"role": "user", "content": "Hi"}])
        == Prompt.of("Hi")
        == Prompt.of((Message(role="user", content="Hi"),))
    )


def test_backends():
    refused("spec: must be the name, folder or URL of a model, not ''", cai.open_backend, "")
    refused("spec:", cai.open_backend, None)


def test_limits_of_files(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n')
    refused("limit:", cai.read_prompts, tmp_path / "p.jsonl", "benign", -1)


def test_files_are_named_by_strings_or_paths(tmp_path, monkeypatch):
    from cai.constitution.few_shot import read_few_shot_examples
    from cai.constitution.importing import read_principles, write_principles
    from cai.data.export import write_rows

    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text('{"prompt": "ask", "chosen": "good", "rejected": "bad"}\n')
    (tmp_path / "l.json").write_text('["Which is kinder?"]')
    for name in ("p.jsonl", tmp_path / "p.jsonl"):
        assert [p.text for p in cai.read_prompts(name, "benign")] == ["ask"]
        assert cai.read_preferences(name).preferences[0].comparison.first == "good"
        assert cai.read_demonstrations(name).rows[0][1] == "good"
    assert cai.read_prompts("p.jsonl#chosen", "benign")[0].text == "good"
    assert (
        write_principles(read_principles("l.json"), "mine", "here", "Mine").is_file()
        and read_few_shot_examples("l.json") == []
    )
    assert write_rows([{"a": 1}], "out", "rows", "trl").read_text() == '{"a": 1}\n'
    with cai.ResponseCache("responses.sqlite") as cache:
        assert cache.totals() == {} and (tmp_path / "responses.sqlite").is_file()
