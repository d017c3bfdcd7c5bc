"""What the name of a model means: beside the run file, then here, then the hub, which is never asked for a path."""

import pytest

from cai.errors import InputError
from cai.models.names import check_available, find_model, is_hub_id


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder with a run file, and another that is the working folder."""
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder in (
        beside / "out/sft",
        here / "out/sft",
        here / "only",
        beside / "a:b",
        beside / "reference",
    ):
        folder.mkdir(parents=True)
    (beside / "weights.bin").write_text("x")
    monkeypatch.chdir(here)
    return beside, here


def test_a_folder_beside_the_run_file_comes_before_one_here(places):
    beside, _ = places
    assert (
        find_model("out/sft", beside) == str(beside / "out/sft")
        and find_model("out/sft") == "out/sft"
    )
    assert find_model("only", beside) == "only" and find_model("a:b", beside) == str(beside / "a:b")
    assert find_model(str(beside / "out/sft"), beside) == str(beside / "out/sft")


@pytest.mark.parametrize(
    "name", ["reference", "http://host/v1#m", "module.sub:make", "Qwen/Qwen2.5-0.5B", "gpt2"]
)
def test_what_is_no_folder_stays_as_it_is(places, name):
    assert find_model(name, places[0]) == name
    assert is_hub_id(name, places[0]) == (name in ("Qwen/Qwen2.5-0.5B", "gpt2"))


@pytest.mark.parametrize(
    "name", ["./x", "../x", "/x", "~/x", "a/b/c", "x/", "a\\b", "a b", "a..b", "-a", "x" * 97, "ü"]
)
def test_a_path_is_never_taken_for_a_hub_id(places, name, monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.get_hf_file_metadata", lambda *_, **__: pytest.fail("the hub was asked")
    )
    for check in (find_model, check_available):
        with pytest.raises(InputError) as caught:
            check(name, places[0])
        places_tried = list(dict.fromkeys([str(places[0] / name), str(places[1].__class__(name))]))
        assert str(caught.value) == f"{name}: there is no folder {' or '.join(places_tried)}"


def test_a_file_is_no_model(places):
    with pytest.raises(
        InputError, match=r"weights\.bin is a file; a model is a folder, a GGUF file or a hub id"
    ):
        find_model("weights.bin", places[0])


def test_the_error_names_both_places_before_the_hub(places, monkeypatch):
    import huggingface_hub

    asked = []

    def hub(url, timeout):
        asked.append(url)
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", hub)
    with pytest.raises(InputError) as caught:
        check_available("out/dpo", places[0])
    assert str(caught.value).startswith(
        f"out/dpo: there is no folder {places[0]}/out/dpo or out/dpo; the hub cannot be reached (no route)"
    )
    check_available("out/sft", places[0])
    check_available("reference", places[0])
    assert len(asked) == 1


def test_without_the_hub_only_its_cache_counts(places, monkeypatch):
    monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: True)
    with pytest.raises(
        InputError, match="HF_HUB_OFFLINE is set and the hub's cache does not have it"
    ):
        check_available("no/such-model")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "/cache/config.json")
    check_available("no/such-model")
