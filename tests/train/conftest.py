import pytest


@pytest.fixture(scope="session")
def both_ways(tiny, tmp_path_factory):
    """A policy that says one of two sentences, half of the time each."""
    from toy_data import BAD, GOOD, PROMPTS

    from cai.config import SFT
    from cai.train.sft import train_sft

    out = tmp_path_factory.mktemp("both") / "start"
    train_sft(
        [(p, text) for p in PROMPTS for text in (GOOD, BAD)],
        tiny,
        out,
        SFT(epochs=10, batch_size=8, learning_rate=5e-3),
    )
    return str(out)


@pytest.fixture
def glad(tiny):
    """A reward of 1 for one of the two sentences, else 0."""
    import torch

    from cai.models.load import load_tokenizer

    tokenizer = load_tokenizer(tiny)
    return lambda prompts, answers: torch.tensor(
        [float(tokenizer.decode(a).startswith(" I am glad")) for a in answers]
    )
