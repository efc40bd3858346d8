"""Quantised backbones: the same model as one with the restored weights."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from test_decoders import FAMILIES, saved
from test_prompts import assert_close, batch_of, inputs_of
from test_tuning import built, tune
from tiny import random_tokens, save_encoder
from tiny import settings as tiny_settings
from torch import nn

from workflow_scripts.core.errors import UserError
from workflow_scripts.experiment.configuration import load
from workflow_scripts.kinds import part
from workflow_scripts.tuning.acceleration.quantised import QuantisedLinear, quantise_layer
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.model import TunedModel, build, restore

ROOT = Path(__file__).resolve().parent.parent
FORMATS = [
    "int8",
    pytest.param(
        "nf4",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed: envs/quantise.txt"
        ),
    ),
]
METHODS = ["prompt_tuning", "input_prompt_tuning", "linear_probe", "lora", "adapter"]
MODELS = ["bert", "Llama"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    made = {name: saved(name, tmp_path_factory.mktemp("model")) for name in ("Llama", "GPT-2")}
    assert made.keys() <= FAMILIES.keys()
    return made | {"bert": save_encoder(tmp_path_factory.mktemp("model"), "bert")}


def model_of(folder: Path, **changes: Any) -> TunedModel:
    seed_everything(4)
    model = build(folder, tiny_settings(kind="tagging", prompt_std=0.5, **changes), touched=None)
    with torch.no_grad():  # LoRA and adapters begin as nothing
        for parameter in model.tuned_parameters().values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def quantised(model: nn.Module) -> dict[str, QuantisedLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantisedLinear)}


@pytest.mark.parametrize("quantise", FORMATS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_are_those_of_the_restored_weights(folders, name, method, quantise):
    plain, model = model_of(folders[name], method=method), model_of(folders[name], method=method, quantise=quantise)
    layers = quantised(model)
    assert len(layers) >= 3 * 6  # query, key, value, output, and two of the feed-forward in each of three layers
    for path, layer in layers.items():
        there = plain.get_submodule(path)
        difference = (layer.weight - there.weight).abs().max() / there.weight.abs().max()
        assert 0 < difference < (0.005 if quantise == "int8" else 0.2)
        there.weight.data = layer.weight
    batch = batch_of("tagging", name)
    logits = [one(batch) for one in (model, plain)]
    assert_close(*logits)
    for values in logits:
        part("tagging", "model").loss(values, batch).backward()
    for (path, here), there in zip(model.tuned_parameters().items(), plain.tuned_parameters().values(), strict=True):
        assert here.grad is not None, path
        assert_close(here.grad, there.grad)


@pytest.mark.parametrize(("quantise", "bits"), [("int8", 8), pytest.param("nf4", 4, marks=FORMATS[1].marks)])
def test_a_weight_takes_the_bits_that_it_should(quantise, bits):
    layer = nn.Linear(512, 256).requires_grad_(False)
    before = layer.weight.clone()
    quantise_layer(layer, quantise, torch.float32)
    stored = layer.codes.nbytes + layer.scales.nbytes
    assert bits / 8 <= stored / before.numel() < 1.13 * bits / 8
    assert layer.weight.shape == before.shape and not any(parameter.requires_grad for parameter in layer.parameters())
    if quantise == "int8":  # rounded to the nearest code of each row
        assert ((layer.weight - before).abs() <= before.abs().amax(1, keepdim=True) / 254 * 1.001).all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["prompt_tuning", "lora"])
def test_a_quantised_model_is_tuned_stored_and_restored(folders, method, precision):
    made = tiny_settings(kind="tagging", method=method, quantise="int8", precision=precision, dropout=0.1)
    tokens = random_tokens("tagging", 40)
    model = built(folders["bert"], made, tokens)
    outcome = tune(model, tokens, made)
    assert not outcome.problem
    # Only what was tuned is stored.
    assert outcome.weights().keys() == model.tuned_tensors().keys()
    assert not any("codes" in name or "scales" in name for name in outcome.weights())
    again = restore(folders["bert"], made, outcome.weights()).eval()
    batch = batch_of("tagging", "bert")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        assert torch.equal(model.eval()(batch), again(batch))


@pytest.mark.parametrize("method", ["fine_tuning", "bitfit"])
def test_methods_that_train_the_encoder_are_refused_by_name(folders, method):
    with pytest.raises(UserError, match=rf"methods\.{method}\.quantise: found 'int8'.*own weights") as refusal:
        build(folders["bert"], tiny_settings(method=method, quantise="int8"), touched=None)
    assert "\n" not in str(refusal.value)


def test_they_are_refused_when_the_configuration_is_read_unless_they_are_excepted():
    values = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    values["training"]["quantise"] = "int8"
    with pytest.raises(UserError, match=r"training\.quantise: found 'int8'; fine_tuning trains .*methods\.fine_tuning"):
        load(values)
    values["methods"]["fine_tuning"]["quantise"] = None
    configuration = load(values)
    assert configuration.training_of("pawsx", "prompt_tuning").quantise == "int8"
    assert configuration.training_of("pawsx", "fine_tuning").quantise is None


@pytest.mark.parametrize("shape", [(256, 128), (24, 48), (37, 33)])
@pytest.mark.parametrize("quantise", [FORMATS[1]])
def test_nf4_rounds_to_the_nearest_code_of_each_block_of_any_shape(quantise, shape):
    layer = nn.Linear(*reversed(shape)).requires_grad_(False)
    before = layer.weight.clone()
    quantise_layer(layer, quantise, torch.float32)
    # The levels are those of QLoRA's appendix E.
    below = [-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004]
    above = [0.0795803, 0.1609302, 0.24611229, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0]
    codes = torch.tensor([*below, 0.0, *above])
    for block, restored in zip(before.flatten().split(64), layer.weight.flatten().split(64), strict=True):
        nearest = codes[(block[:, None] / block.abs().max() - codes).abs().argmin(1)] * block.abs().max()
        assert_close(restored, nearest)


def test_a_model_without_linear_layers_is_refused_by_name(folders):
    with pytest.raises(UserError, match=r"'gpt2' have most of their weights in modules other.*Conv1D"):
        build(folders["GPT-2"], tiny_settings(quantise="int8"), touched=None)


def test_a_missing_package_is_named_with_the_command_that_installs_it(folders, monkeypatch):
    from workflow_scripts.tuning.acceleration import quantised as module

    module._library.cache_clear()
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"nf4 needs the package no_such_package: pip install .*envs/quantise.txt"):
        build(folders["bert"], tiny_settings(quantise="nf4"), touched=None)
    module._library.cache_clear()


def test_states_without_quantisation_stay_as_they_were(folders):
    batch = inputs_of(batch_of("tagging", "bert"))
    one, other = (model_of(folders["bert"], method="linear_probe", quantise=quantise) for quantise in (None, "int8"))
    assert not quantised(one) and quantised(other)
    assert not torch.equal(one(batch), other(batch))
