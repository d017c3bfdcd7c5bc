"""The in-process backend on models small enough to check by hand."""

from types import SimpleNamespace

import pytest
import torch

from cai.backends import open_backend
from cai.backends.local import LocalBackend
from cai.backends.protocol import GenerateRequest, LoglikelihoodRequest
from cai.errors import InputError
from cai.models.load import load_tokenizer
from cai.records import Message


def talk(*texts):
    roles = ("user", "assistant")
    return tuple(Message(role=roles[i % 2], content=t) for i, t in enumerate(texts))


TALKS = [
    talk("Hello."),
    talk(
        "How do I repair the red bike?",
        "To repair the red bike, first make a plan.",
        "Find slang in the reply.",
    ),
    talk("Is it hard to wash the boat?"),
]


def answers(backend, requests):
    found = dict(backend.respond(requests))
    return [found[i] for i in range(len(requests))]


@pytest.mark.parametrize("fixture", ["tiny", "tiny_gpt2"])
def test_answers_do_not_depend_on_the_batch(request, fixture):
    backend = LocalBackend(request.getfixturevalue(fixture))
    requests = [GenerateRequest(t, seed=i, max_tokens=12) for i, t in enumerate(TALKS)] + [
        LoglikelihoodRequest(t, ("Problem", "No problem")) for t in TALKS
    ]
    together = answers(backend, requests)
    for request, found in zip(requests, together, strict=True):
        standalone = answers(backend, [request])[0]
        if isinstance(request, GenerateRequest):
            assert standalone == found
        else:
            assert found.logprobs == pytest.approx(standalone.logprobs, abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        ("A", "B"),
        ("Problem", "No problem"),
        ("the red bike", "the red boat"),
        ("the red bike is here", "the blue boat"),
    ],
)
def test_choices_are_the_log_probabilities_of_the_options(tiny, options):
    backend = LocalBackend(tiny)
    model, tokenizer = backend.language_model
    found = answers(backend, [LoglikelihoodRequest(TALKS[1], options)])[0]
    prompt = tokenizer(
        backend.render(LoglikelihoodRequest(TALKS[1], options)), add_special_tokens=False
    ).input_ids
    first_tokens = [tokenizer(f" {o}", add_special_tokens=False).input_ids for o in options]
    single = first_tokens[0][0] != first_tokens[1][0]
    for option, value in zip(first_tokens, found.logprobs, strict=True):
        with torch.no_grad():
            logprobs = model(torch.tensor([prompt + option])).logits[0].log_softmax(-1)
        steps = [logprobs[len(prompt) - 1 + i, token].item() for i, token in enumerate(option)]
        assert value == pytest.approx(steps[0] if single else sum(steps), abs=1e-4)


def test_a_prompt_over_the_context_is_a_status_at_the_exact_border(tiny):
    backend = LocalBackend(tiny)
    base = len(backend.format.ids(backend.render(GenerateRequest(talk("x"), 0))))
    room = 512 - base
    fits, over = (
        answers(
            backend,
            [GenerateRequest(talk("x" + " dog" * (room - extra)), seed=0, max_tokens=extra + more)],
        )[0]
        for extra, more in ((4, 0), (4, 1))
    )
    assert fits.finish_reason != "too_long" and over.finish_reason == "too_long" and over.text == ""


def test_base_models_get_the_transcript_format(tiny, tmp_path):
    backend = LocalBackend(tiny, "transcript")
    assert (
        backend.render(GenerateRequest(talk("a", "b", "c"), 0))
        == "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    )
    assert LocalBackend(tiny, "plain").render(GenerateRequest(talk("Once"), 0)) == "Once"
    assert LocalBackend(tiny).fingerprint != backend.fingerprint


def test_fingerprint_follows_the_weights(tiny, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    assert LocalBackend(str(copy)).fingerprint == LocalBackend(tiny).fingerprint
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert LocalBackend(str(copy)).fingerprint != LocalBackend(tiny).fingerprint


def test_names_that_mean_nothing_end_in_one_line():
    with pytest.raises(InputError, match="names no function"):
        open_backend("no_such_module:make")
    with pytest.raises(InputError, match="there is no folder no/such-model; HF_HUB_OFFLINE is set"):
        open_backend("no/such-model").render(GenerateRequest(talk("a"), 0))


def test_a_backend_can_be_any_function(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from cai.backends.scripted import ScriptedBackend\ndef make():\n    return ScriptedBackend(lambda m, s: 'hi', name='mine')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert open_backend("mine:make").fingerprint == "mine"


def test_a_model_that_cannot_be_had_is_said_soon(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    asked = []

    def hub(url, timeout):
        asked.append(url)
        if "private" in url:
            raise RepositoryNotFoundError("401", response=SimpleNamespace(headers={}, request=None))
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", hub)
    for name, says in (
        (
            "refrence",
            r"no folder refrence; the hub cannot be reached.*no route.*name a folder.*did you mean 'reference'",
        ),
        ("some/private", r"the hub has no such model"),
        ("./nowhere", r"there is no folder"),
        ("a b", r"there is no folder"),
    ):
        with pytest.raises(InputError, match=says):
            load_tokenizer(name)
    assert len(asked) == 2, "each is asked for once"
