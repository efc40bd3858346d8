"""The architectures of the multilingual encoders in use, tiny and random, with every method.

The table in docs/models.md lists them. Checkpoints are written as on the hub: with a pretraining head, so that the
encoder's tensors have a prefix, and for mBERT with the tensor names of the first BERT checkpoints.
"""

import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from snakemake_runs import ROOT
from test_decoders import FAMILIES, OWN_ATTENTION
from test_decoders import saved as saved_family
from test_methods import VARIANTS as NEW_VARIANTS
from test_prompts import assert_close, batch_of, inputs_of
from test_tuning import built, equal, tune
from tiny import PADDING, SIZES, SPECIAL, VOCABULARY, random_tokens
from tiny import settings as tiny_settings
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    BertConfig,
    DebertaV2Config,
    ModernBertConfig,
    PreTrainedConfig,
    XLMRobertaConfig,
    XLMRobertaXLConfig,
)

from workflow_scripts.core.errors import Interrupted, UserError
from workflow_scripts.core.files import write_json
from workflow_scripts.encoders.sources import MANIFEST, describe
from workflow_scripts.experiment.catalogue import METHODS
from workflow_scripts.tuning import gradients, loop
from workflow_scripts.tuning.checkpoint import Checkpoint
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.loop import Validated, train
from workflow_scripts.tuning.model import build, restore
from workflow_scripts.tuning.predict import logits

CPU = torch.device("cpu")
# What the published config.json of each encoder says beyond its sizes.
ENCODERS: dict[str, PreTrainedConfig] = {
    "XLM-R base and large": XLMRobertaConfig(**SIZES, type_vocab_size=1, layer_norm_eps=1e-5),
    "XLM-R XL": XLMRobertaXLConfig(**SIZES, type_vocab_size=1, layer_norm_eps=1e-5),
    "mBERT": BertConfig(**SIZES),
    "multilingual-e5": XLMRobertaConfig(**SIZES, type_vocab_size=1, layer_norm_eps=1e-5),
    "mDeBERTa-v3": DebertaV2Config(
        **SIZES,
        relative_attention=True,
        max_relative_positions=-1,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        position_biased_input=False,
        type_vocab_size=0,
        layer_norm_eps=1e-7,
    ),
    "mmBERT": ModernBertConfig(**SIZES, **SPECIAL, local_attention=8, global_attn_every_n_layers=3),
}
VARIANTS = {"fine_tuning": {"method": "fine_tuning"}, "prompt_tuning": {"method": "prompt_tuning"}, **NEW_VARIANTS}

# Combinations that are not supported: each is refused in one line. docs/models.md lists them too.
WITHOUT_BIASES = ("mmBERT", "Llama", "Qwen 3", "Gemma 2", "Gemma 3", "Mistral", "mT5", "T5Gemma")
REFUSED = {
    **{(name, "bitfit"): "no biases to tune" for name in WITHOUT_BIASES},
    **{
        (name, variant): "cannot take prompts"
        for name in OWN_ATTENTION
        for variant in ("prompt_tuning", "last layers", "network", "llama_adapter", "prefix_plus")
    },
}
REFUSED |= {(name, "llama_adapter"): "no separate projections" for name in ("mmBERT", "GPT-2")}
MODELS = ENCODERS | FAMILIES
POSSIBLE = [(name, variant) for name in MODELS for variant in VARIANTS if (name, variant) not in REFUSED]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of each model as published on the hub and stored by `fetch_encoder`."""
    return {
        name: (saved if name in ENCODERS else saved_family)(name, tmp_path_factory.mktemp("encoder")) for name in MODELS
    }


def saved(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    # multilingual-e5 is a bare encoder with a pooler; the others were published with their pretraining heads.
    model = (AutoModel if name == "multilingual-e5" else AutoModelForMaskedLM).from_config(ENCODERS[name])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    if name == "mBERT":
        torch.manual_seed(1)
        pooler = {"bert.pooler.dense.weight": torch.randn(32, 32), "bert.pooler.dense.bias": torch.randn(32)}
        with_old_names(folder, pooler)
    write_json(folder / MANIFEST, describe(name, {"source": "folder"}, folder) | {"kind": "encoder"})
    return folder


def with_old_names(folder: Path, others: dict[str, torch.Tensor]) -> None:
    """Name the tensors as when a normalisation's parameters were called gamma and beta, and add others."""
    tensors = load_file(folder / "model.safetensors")
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for key, tensor in tensors.items()
    }
    assert old.keys() != tensors.keys()
    save_file(old | others, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_loaded_as_the_library_loads_it(folders, name):
    batch = batch_of("tagging", "bert" if name == "mBERT" else name)
    shown = batch["attention_mask"].bool()
    plain = AutoModel.from_pretrained(folders[name], attn_implementation="eager").eval()
    model = build(folders[name], tiny_settings(kind="tagging", method="linear_probe"), touched=None).eval()
    ours, theirs = model.encoder(**inputs_of(batch)), plain(**inputs_of(batch))
    assert_close(ours.last_hidden_state[shown], theirs.last_hidden_state[shown], 2e-5)
    with_pooler = name in ("mBERT", "multilingual-e5")
    # If the checkpoint has no pooler, the library would create a random one.
    assert (getattr(model.encoder, "pooler", None) is not None) == with_pooler
    if with_pooler:
        assert_close(ours.pooler_output, theirs.pooler_output)


@pytest.mark.parametrize("method", ["linear_probe", "fine_tuning", "input_prompt_tuning"])
@pytest.mark.parametrize("name", ENCODERS)
def test_the_rows_of_a_texts_words_give_the_states_of_the_whole_table(folders, name, method):
    batch = batch_of("tagging", "bert" if name == "mBERT" else name)
    settings = tiny_settings(kind="tagging", method=method)
    ids = batch["input_ids"].unique()
    logits = []
    for kept in (None, ids):
        seed_everything(1)
        model = build(folders[name], settings, touched=ids[1:4], ids=kept).eval()
        logits.append(model(batch))
    assert torch.equal(*logits)
    words = model.encoder.get_input_embeddings()
    table = words.words if method == "fine_tuning" else words
    assert len(ids) <= len(table.weight) <= len(ids) + 1  # the padding's besides
    absent = min(set(range(VOCABULARY)) - set(ids.tolist()) - {PADDING})
    with pytest.raises(IndexError):
        model({**batch, "input_ids": torch.full_like(batch["input_ids"], absent)})


def test_no_pooler_is_made_up_for_an_old_checkpoint_without_one(tmp_path):
    """Its random weights would differ between processes."""
    AutoModelForMaskedLM.from_config(ENCODERS["mBERT"]).save_pretrained(tmp_path)
    with_old_names(tmp_path, {})
    assert build(tmp_path, tiny_settings(method="linear_probe"), touched=None).encoder.pooler is None


def lost(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All but the last layer's."""
    return {name: tensor for name, tensor in tensors.items() if "layer.2." not in name}


def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With the names of a sentence encoder's own format."""
    return {f"0.auto_model.{name}": tensor for name, tensor in tensors.items()}


def grown(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With ten word vectors more than config.json says."""
    words = "embeddings.word_embeddings.weight"
    return tensors | {words: torch.cat((tensors[words], torch.zeros(10, 32)))}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lost, "encoder.layer.2.attention.output.LayerNorm.bias is missing"),
        (renamed, "embeddings.LayerNorm.bias is missing"),
        (grown, r"embeddings.word_embeddings.weight has the shape \[90, 32\] instead of \[80, 32\]"),
    ],
)
def test_no_weights_are_made_up_for_a_checkpoint_that_lacks_some(encoders, tmp_path, change, named):
    folder = shutil.copytree(encoders["bert"], tmp_path / "encoder")
    weights = folder / "model.safetensors"
    save_file(change(load_file(weights)), weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"weights do not match config.json: {named}; .*save_pretrained") as refusal:
        build(folder, tiny_settings(method="linear_probe"), touched=None)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("name", "variant"), POSSIBLE)
def test_a_model_is_tuned_stopped_resumed_stored_and_predicts(folders, tmp_path, monkeypatch, name, variant):
    made = tiny_settings(
        kind="tagging", epochs=2, dropout=0.1, precision="bfloat16", max_length=20, **VARIANTS[variant]
    )
    tokens, others = random_tokens("tagging", 40), random_tokens("tagging", 20, seed=5)
    whole = built(folders[name], made, tokens)
    before = {key: value.clone() for key, value in whole.tuned_tensors().items()}
    expected = tune(whole, tokens, made)
    assert not expected.problem
    moved = [key for key, value in expected.weights().items() if not torch.equal(value, before[key])]
    assert set(moved) == {key for key in expected.weights() if not key.endswith(".touched")}

    def train_on(model: Any, stop_after: int) -> loop.TrainingResult:
        steps, collate = [], gradients.collate

        def counted(*arguments: Any) -> Any:
            steps.append(1)
            if len(steps) == stop_after:
                signal.raise_signal(signal.SIGTERM)
            return collate(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(gradients, "collate", counted)
            validate = lambda model: Validated({"accuracy": 50.0}, 1.0)  # noqa: E731
            return train([model], tokens, made, [1e-2], validate, Checkpoint(tmp_path, "key", every=60), CPU)

    with pytest.raises(Interrupted, match="saved after step 3 of 10"):
        train_on(built(folders[name], made, tokens), stop_after=3)
    resumed = train_on(built(folders[name], made, tokens), stop_after=0).outcomes[0]
    assert equal(resumed.weights(), expected.weights())

    again = restore(folders[name], made, expected.weights())
    for one, other in zip(
        logits(whole, others, made.precision, CPU), logits(again, others, made.precision, CPU), strict=True
    ):
        assert (one == other).all()


@pytest.mark.parametrize(("name", "variant"), REFUSED)
def test_what_a_model_cannot_do_is_refused_in_one_line(folders, name, variant):
    with pytest.raises(UserError, match=REFUSED[name, variant]) as refusal:
        build(folders[name], tiny_settings(**VARIANTS[variant]), touched=None)
    type_named = re.search(r"type '(\w+|[\w-]+)'", str(refusal.value))
    # The encoder of T5Gemma has a type of its own, t5_gemma_module.
    assert type_named and type_named[1].replace("_", "").startswith(MODELS[name].model_type.replace("_", ""))
    assert "\n" not in str(refusal.value)


def test_the_documentation_lists_what_was_tested():
    """One row per model, with the methods that it refuses."""
    lines = (ROOT / "docs/models.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert ["model", "architecture", "refuses"] in rows
    documented = {row[0]: set(re.findall(r"`(\w+)`", row[2])) for row in rows if row[0] in MODELS and len(row) == 3}
    assert documented == {
        name: {VARIANTS[variant]["method"] for model, variant in REFUSED if model == name} for name in MODELS
    }
    assert {changes["method"] for changes in VARIANTS.values()} == {
        name for name, method in METHODS.items() if method.trains
    }
