"""The kind of a model - encoder, decoder, or both - is derived from its architecture, and each kind is fetched."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from language_models import DECODERS, ENCODER_DECODERS, LAYERS, VOCABULARY, save_checkpoint
from tiny import CONFIGURATIONS
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BertConfig,
    Gemma3Config,
    Gemma3TextConfig,
    Lfm2Config,
    MambaConfig,
    MptConfig,
    OpenAIGPTConfig,
    OPTConfig,
    PreTrainedConfig,
    RemBertConfig,
    RoFormerConfig,
    XLNetConfig,
)

from workflow_scripts.core.errors import UserError
from workflow_scripts.encoders import sources
from workflow_scripts.encoders.architecture import architecture, kind_of, refuse_untunable
from workflow_scripts.encoders.depth import keep_first_layers

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.2,
}
OTHERS: dict[str, PreTrainedConfig] = {
    "BERT used as a decoder": BertConfig(**SMALL, is_decoder=True),
    "Gemma 3 with bidirectional attention": Gemma3TextConfig(
        **SMALL, num_key_value_heads=2, head_dim=8, use_bidirectional_attention=True
    ),
    "rembert": RemBertConfig(**SMALL),
    "roformer": RoFormerConfig(**SMALL),
    "opt": OPTConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, ffn_dim=48, word_embed_proj_dim=32
    ),
    "mpt": MptConfig(d_model=32, n_heads=4, n_layers=3, vocab_size=60),
    "openai-gpt": OpenAIGPTConfig(vocab_size=60, n_embd=32, n_layer=3, n_head=4),
    "xlnet": XLNetConfig(vocab_size=60, d_model=32, n_layer=3, n_head=4, d_inner=48),
}


def sees_later_tokens(model: Any) -> bool:
    """Whether the vectors of the first tokens change with a later token."""
    tokens = torch.arange(5, 15).unsqueeze(0)
    other = tokens.clone()
    other[0, 7] = 40
    with torch.no_grad():
        before, after = (model(input_ids=ids).last_hidden_state[0, :7] for ids in (tokens, other))
    return not torch.allclose(before, after, atol=1e-6)


@pytest.mark.parametrize("name", [*CONFIGURATIONS, *DECODERS, *OTHERS])
def test_a_decoder_is_a_model_whose_tokens_do_not_depend_on_later_ones(name):
    config = {**CONFIGURATIONS, **DECODERS, **OTHERS}[name]
    model_class, options = architecture(config, with_pooler=False)
    torch.manual_seed(0)
    model = model_class(config, **options).eval()
    assert kind_of(model) == ("encoder" if sees_later_tokens(model) else "decoder")
    assert (kind_of(model) == "decoder") == (name in {*DECODERS, "BERT used as a decoder", "opt", "mpt", "openai-gpt"})
    with torch.device("meta"):
        assert kind_of(model_class(config, **options)) == kind_of(model)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_a_model_with_two_stacks_is_an_encoder_decoder(name):
    with torch.device("meta"):
        model = AutoModel.from_config(ENCODER_DECODERS[name])
    assert kind_of(model) == "encoder-decoder"
    refuse_untunable(model)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2), "'mamba' have no attention"),
        (
            Lfm2Config(**SMALL, num_key_value_heads=2, layer_types=["conv", "full_attention", "conv"]),
            "'lfm2' with layers of the type 'conv'",
        ),
        (Gemma3Config(), "'gemma3' read images or sound besides text"),
    ],
    ids=["mamba", "lfm2", "gemma3"],
)
def test_what_cannot_be_tuned_is_refused_by_name(config, says):
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    with pytest.raises(UserError, match=says):
        refuse_untunable(model)


def with_bytes(config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration with a vocabulary for the tokenizer of bytes."""
    changed = copy.deepcopy(config)
    changed.vocab_size = VOCABULARY
    return changed


def fetched(folder: Path, target: Path, **changes: Any) -> tuple[Path, dict[str, Any]]:
    """The folder and the manifest of a fetched checkpoint."""
    return target, sources.fetch("tiny", {"source": "folder", "path": str(folder), **changes}, target)


@pytest.mark.parametrize("name", [*DECODERS, *ENCODER_DECODERS])
def test_language_models_of_every_family_are_fetched_with_their_output_layer(name, tmp_path):
    config = {**DECODERS, **ENCODER_DECODERS}[name]
    model = save_checkpoint(tmp_path / "checkpoint", config)
    folder, manifest = fetched(tmp_path / "checkpoint", tmp_path / "fetched")
    sizes = {"hidden_size": 32, "layers": LAYERS, "attention_heads": 4, "vocabulary": 300}
    assert sizes.items() <= manifest.items()
    assert manifest["positions"] == {"bloom": None, "mt5": None, "xglm": 300}.get(name, 64)
    found = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    again, left = found.from_pretrained(folder, output_loading_info=True)
    assert not left["missing_keys"]
    inputs = {"input_ids": torch.arange(5, 15).unsqueeze(0)}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("name", [name for name in CONFIGURATIONS if name != "albert"] + list(DECODERS))
def test_the_first_layers_of_a_model_give_its_vectors_at_that_depth(name, tmp_path):
    """The slow way: the whole model, whose list of layers is cut in memory."""
    config = with_bytes({**CONFIGURATIONS, **DECODERS}[name])
    model = save_checkpoint(tmp_path / "checkpoint", config)
    folder, manifest = fetched(tmp_path / "checkpoint", tmp_path / "fetched", layers=2)
    assert manifest["layers"] == 2 and manifest["source"]["layers"] == 2
    whole = AutoModel.from_pretrained(tmp_path / "checkpoint").eval()
    stack = whole
    for attribute in ("encoder", "transformer"):
        stack = getattr(stack, attribute, stack)
    attribute = next(attribute for attribute in ("layer", "layers", "h") if hasattr(stack, attribute))
    of_layer = sum(parameter.numel() for parameter in getattr(stack, attribute)[2].parameters())
    setattr(stack, attribute, getattr(stack, attribute)[:2])
    whole.config.num_hidden_layers = 2
    cut, left = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert all(name.startswith("pooler.") for name in left["missing_keys"])  # which language models lack
    tokens = torch.arange(5, 15).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(cut.eval()(tokens).last_hidden_state, whole(tokens).last_hidden_state)
    stored = sources.describe("tiny", {}, tmp_path / "checkpoint")["parameters"]
    assert manifest["parameters"] == stored - of_layer
    assert model.config.num_hidden_layers == LAYERS


def test_settings_of_each_layer_are_cut_with_the_layers(tmp_path):
    save_checkpoint(tmp_path / "checkpoint", DECODERS["gemma3_text"])
    folder, _ = fetched(tmp_path / "checkpoint", tmp_path / "fetched", layers=2)
    assert json.loads((folder / "config.json").read_text())["layer_types"] == ["sliding_attention", "full_attention"]


def test_sharded_weights_are_cut_shard_by_shard(tmp_path):
    model = save_checkpoint(tmp_path / "checkpoint", DECODERS["llama"])
    (tmp_path / "checkpoint" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "checkpoint", max_shard_size="20KB")
    before = {path.name for path in (tmp_path / "checkpoint").glob("*.safetensors")}
    assert len(before) > 2
    folder, _ = fetched(tmp_path / "checkpoint", tmp_path / "fetched", layers=1)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    after = {path.name for path in folder.glob("*.safetensors")}
    assert after == set(index["weight_map"].values()) and after < before
    assert not any(".layers.1." in name or ".layers.2." in name for name in index["weight_map"])
    assert AutoModel.from_pretrained(folder, output_loading_info=True)[1]["missing_keys"] == set()


def test_as_many_layers_as_there_are_change_nothing(tmp_path):
    save_checkpoint(tmp_path, DECODERS["llama"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    keep_first_layers(tmp_path, LAYERS, "tiny")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("config", "layers", "says"),
    [
        (DECODERS["llama"], 4, r"encoders\.tiny\.layers: found 4, but the model has 3"),
        (ENCODER_DECODERS["mt5"], 2, r"encoders\.tiny\.layers: models of the type 'mt5' have two stacks"),
        (CONFIGURATIONS["albert"], 2, r"encoders\.tiny\.layers: .*'albert' have no list of layers"),
    ],
    ids=["too many", "two stacks", "shared layers"],
)
def test_layers_that_cannot_be_taken_are_refused_in_one_line(config, layers, says, tmp_path):
    save_checkpoint(tmp_path / "checkpoint", with_bytes(config))
    with pytest.raises(UserError, match=says) as caught:
        fetched(tmp_path / "checkpoint", tmp_path / "fetched", layers=layers)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "fetched").exists()
