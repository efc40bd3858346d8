"""GGUF files become checkpoints that give the same numbers, or are refused in one line."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from language_models import byte_tokenizer
from safetensors.torch import load_file
from tiny_gguf import gguf_tensors, rounded, tiny_llama, write_gguf
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import sha256
from workflow_scripts.encoders import sources
from workflow_scripts.encoders.record import read_encoder

TEXTS = ["Hello world", "Größe  東京\n", "cab"]


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny_llama()


@pytest.fixture
def file(tmp_path, llama) -> Path:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, gguf_tensors(llama))
    return path


def fetch(file: Path, **changes: Any) -> Path:
    target = file.parent / "resources" / "tiny"
    sources.fetch("tiny", {"source": "gguf", "path": str(file), **changes}, target)
    return target


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(torch.arange(5, 25).unsqueeze(0)).logits
    return logits


def test_a_converted_file_gives_the_logits_of_the_model_that_it_was_written_from(file, llama):
    folder = fetch(file)
    model, left = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(left.values())
    assert all(torch.equal(tensor, llama.state_dict()[name]) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(logits_of(model), logits_of(llama))
    backbone = AutoModel.from_pretrained(folder)
    tokens = torch.arange(5, 25).unsqueeze(0)
    with torch.no_grad():
        expected = llama.model(tokens).last_hidden_state
        torch.testing.assert_close(backbone.eval()(tokens).last_hidden_state, expected)


def test_a_file_without_an_output_layer_predicts_words_with_its_embeddings(tmp_path, llama):
    tensors = gguf_tensors(llama)
    del tensors["output.weight"]
    write_gguf(tmp_path / "tiny.gguf", tensors)
    folder = fetch(tmp_path / "tiny.gguf")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, llama.model.embed_tokens.weight)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")


def test_the_folder_holds_a_checkpoint_and_nothing_else(file):
    folder = fetch(file)
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("encoder.json", ".files.json"),
    }
    assert "gguf" not in (folder / "config.json").read_text()
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_the_record_names_the_file_and_what_was_stored(file):
    record = read_encoder(fetch(file) / "encoder.json")
    assert record["source"] == {
        "source": "gguf",
        "path": str(file),
        "gguf": {"sha256": sha256(file), "tensors": {"F32": 30}, "stored_as": "float32"},
    }
    assert record["model_type"] == "llama" and record["layers"] == 3 and record["positions"] == 64


def test_converting_again_writes_the_same_bytes(file):
    folder = fetch(file)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {path.name: path.read_bytes() for path in fetch(file).iterdir()} == before


@pytest.mark.parametrize(
    ("kind", "stored_as"), [("Q8_0", "float32"), ("Q4_0", "float32"), ("F16", "float16"), ("BF16", "bfloat16")]
)
def test_weights_are_stored_in_the_narrowest_type_that_keeps_their_values(tmp_path, llama, kind, stored_as):
    tensors = gguf_tensors(llama)
    if kind in ("F16", "BF16"):  # the norms, which a file keeps in float32, then come from a model of that type too
        tensors = {name: rounded(values, kind) for name, values in tensors.items()}
    file = tmp_path / "tiny.gguf"
    write_gguf(file, tensors, quantized=kind)
    folder = fetch(file)
    stored = load_file(folder / "model.safetensors")
    assert {str(tensor.dtype) for tensor in stored.values()} == {f"torch.{stored_as}"}
    assert json.loads((folder / "config.json").read_text())["dtype"] == stored_as
    for part, name in (("ffn_down", "mlp.down_proj"), ("attn_v", "self_attn.v_proj"), ("ffn_up", "mlp.up_proj")):
        values = tensors[f"blk.1.{part}.weight"]
        expected = rounded(values, kind)
        assert np.array_equal(stored[f"model.layers.1.{name}.weight"].float().numpy(), expected)


def test_the_tokenizer_is_the_files(file):
    tokenizer, expected = AutoTokenizer.from_pretrained(fetch(file)), byte_tokenizer()
    for text in TEXTS:
        assert tokenizer(text)["input_ids"] == expected(text)["input_ids"]
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<bos>", "<eos>")
    assert tokenizer.pad_token == "<eos>"  # the file names none


def test_the_first_layers_of_a_file_are_taken(file):
    folder = fetch(file, layers=1)
    assert AutoModel.from_pretrained(folder, output_loading_info=True)[1]["missing_keys"] == set()
    assert not any("layers.1" in name for name in load_file(folder / "model.safetensors"))


@pytest.mark.parametrize(
    ("settings", "changed", "says"),
    [
        ({}, {"blk.1.attn_v.weight": None}, r"finds no tensor for model\.layers\.1\.self_attn\.v_proj\.weight"),
        ({}, {"rope_freqs.weight": np.ones(4, np.float32)}, "holds [0-9,]+ numbers, .*rope_freqs.*safetensors"),
        ({"llama.rope.scaling.type": "yarn"}, {}, "scales rotary positions"),
    ],
    ids=["tensor", "unread tensor", "scaling"],
)
def test_what_the_library_would_not_read_is_refused(tmp_path, llama, settings, changed, says):
    tensors = {name: values for name, values in (gguf_tensors(llama) | changed).items() if values is not None}
    file = tmp_path / "tiny.gguf"
    write_gguf(file, tensors, settings=settings)
    with pytest.raises(UserError, match=says) as caught:
        fetch(file)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "resources" / "tiny").exists()


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda file: file.unlink(), "does not exist"),
        (lambda file: file.write_bytes(b"PK\x03\x04" + bytes(100)), "is not a GGUF file: it starts with"),
        (lambda file: os.truncate(file, 5000), "truncated or damaged"),
        (lambda file: os.truncate(file, file.stat().st_size - 1000), "truncated or damaged"),
        (lambda file: write_gguf(file, {}, architecture="bert"), "architecture bert is not supported.*safetensors"),
    ],
    ids=["missing", "another format", "cut in its settings", "cut in its tensors", "another architecture"],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(file, break_it, says):
    break_it(file)
    with pytest.raises(UserError, match=says) as caught:
        fetch(file)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


def test_another_checksum_than_the_configured_one_is_refused(file):
    assert fetch(file, sha256=sha256(file).upper())
    with pytest.raises(UserError, match=rf"{sha256(file)}, not 0000"):
        fetch(file, sha256="0" * 64)


def test_the_file_is_one_of_the_users_files_whose_edit_fetches_it_again(file):
    assert sources.source_files({"source": "gguf", "path": str(file)}) == [file]
