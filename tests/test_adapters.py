"""Bottleneck adapters, LLaMA-Adapter and Prefix-Tuning+ against slow formulas, and LLaMA-Adapter against PEFT."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaptionPromptConfig, get_peft_model
from test_decoders import FAMILIES, OWN_ATTENTION, saved
from test_methods import plain
from test_peft import models  # noqa: F401  (`models` is a fixture)
from test_prompts import LENGTH, assert_close, batch_of, inputs_of
from tiny import CONFIGURATIONS, PADDING, POSITIONS, save_encoder
from tiny import settings as tiny_settings
from transformers import AutoModel
from transformers.models.llama import modeling_llama
from transformers.models.xlm_roberta import modeling_xlm_roberta

from workflow_scripts.core.errors import UserError
from workflow_scripts.tuning.backbone import deberta
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.methods.adapter import sublayers
from workflow_scripts.tuning.model import TunedModel, build

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
LLAMA: dict[str, Any] = {"method": "llama_adapter", "prompt_length": LENGTH}
PREFIX: dict[str, Any] = {"method": "prefix_plus"}
STARTING_PLAIN = [*({"method": "adapter", "adapter_placement": one} for one in PLACEMENTS), LLAMA, PREFIX]


def built(folder: Path, loud: bool = True, **changes: Any) -> TunedModel:
    """A model that returns states; `loud` makes the tuned parameters large enough to have an effect."""
    seed_everything(3)
    model = build(folder, tiny_settings(kind="tagging", **changes), touched=None).eval()
    model.head = torch.nn.Identity()
    with torch.no_grad():
        for parameter in model.tuned_parameters().values():
            parameter.add_(0.3 * torch.randn_like(parameter) * loud)
    return model


# The names of the sublayers' first and last matrices in the two models, written independently.
PARTS = {
    "encoder": ("attention.output.dense", "intermediate.dense", "output.dense"),
    "decoder": ("self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"),
}


def by_formula(folder: Path, model: TunedModel, placement: str, parts: tuple[str, str, str]) -> torch.nn.Module:
    """The library's model; each last matrix is replaced by the matrix and the formula of its adapter."""
    theirs = plain(folder)
    layers = theirs.encoder.layer if hasattr(theirs, "encoder") else theirs.layers
    weights = iter([[one.detach() for one in network.parameters()] for network in model.encoder.bottlenecks])

    class After(torch.nn.Module):
        def __init__(self, matrix: torch.nn.Module, adapter: list[torch.Tensor]) -> None:
            super().__init__()
            self.matrix, self.adapter = matrix, adapter

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            down, down_bias, up, up_bias = self.adapter
            states = self.matrix(states)
            hidden = states @ down.T + down_bias
            active = torch.nn.functional.gelu(hidden) if placement == "houlsby" else hidden.clamp(min=0)
            return states + active @ up.T + up_bias

    class Beside(torch.nn.Module):
        def __init__(self, network: torch.nn.Module, adapter: list[torch.Tensor]) -> None:
            super().__init__()
            self.network, self.adapter = network, adapter

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            down, down_bias, up, up_bias = self.adapter
            return self.network(states) + 4 * ((states @ down.T + down_bias).clamp(min=0) @ up.T + up_bias)

    for layer in layers:
        attention, _, last = parts
        if placement == "parallel" and hasattr(layer, "mlp"):
            layer.mlp = Beside(layer.mlp, next(weights))
        elif placement == "parallel":
            inner, outer = layer.intermediate, layer.output.dense
            layer.output.dense = Beside(torch.nn.Sequential(inner, outer), next(weights))
            layer.intermediate = torch.nn.Identity()
        else:
            for name in (attention, last) if placement == "houlsby" else (last,):
                layer.set_submodule(name, After(layer.get_submodule(name), next(weights)))
    assert next(weights, None) is None
    return theirs


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", PARTS)
def test_adapters_follow_the_formula(models, name, placement):  # noqa: F811
    ours = built(models[name], method="adapter", adapter_placement=placement)
    theirs, batch = by_formula(models[name], ours, placement, PARTS[name]), batch_of("tagging", "Llama")
    shown = batch["attention_mask"].bool()
    assert_close(ours(batch)[shown], theirs(**inputs_of(batch)).last_hidden_state[shown], 3e-5)


@pytest.mark.parametrize("changes", STARTING_PLAIN)
@pytest.mark.parametrize("name", PARTS)
def test_a_model_starts_as_the_plain_one_bit_for_bit(models, name, changes):  # noqa: F811
    batch = batch_of("tagging", "Llama")
    start = built(models[name], loud=False, **changes)
    untouched = built(models[name], loud=False, method="linear_probe")
    assert torch.equal(start(batch), untouched(batch))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_an_adapter_has_the_parameters_of_its_formula(models, placement):  # noqa: F811
    model = built(models["encoder"], method="adapter", adapter_placement=placement, adapter_width=6)
    tuned = sum(one.numel() for one in model.tuned_parameters().values())
    assert tuned == 3 * (2 if placement == "houlsby" else 1) * (32 * 6 + 6 + 6 * 32 + 32)


@pytest.mark.parametrize("name", [*(name for name in CONFIGURATIONS if name != "albert"), *FAMILIES])
def test_every_familys_sublayers_are_known(tmp_path, name):
    folder = save_encoder(tmp_path, name) if name in CONFIGURATIONS else saved(name, tmp_path)
    model = AutoModel.from_pretrained(folder)
    found = list(sublayers(model.get_encoder() if model.config.is_encoder_decoder else model))
    assert len(found) == 3
    for attention, _, last in found:
        assert attention is not last


def test_an_encoder_whose_layers_are_one_module_is_refused(tmp_path):
    with pytest.raises(UserError, match="'albert' have no sublayers that the method adapter knows"):
        build(save_encoder(tmp_path, "albert"), tiny_settings(method="adapter"), touched=None)


# What is added beside attention


def assert_follows(ours: TunedModel, folder: Path, name: str, first: int, slow: Any, monkeypatch: Any) -> None:
    """The states and gradients equal those of the library's model with a formula added to its attention.

    first: the first layer that has it; slow: called as `slow(layer, query)`, where layer counts from `first`.
    """
    batch = batch_of("tagging", "Llama")
    shown = batch["attention_mask"].bool()
    found = ours(batch)[shown]
    target = torch.randn_like(found)
    (found * target).sum().backward()
    gradients = {one: parameter.grad.clone() for one, parameter in ours.prompts.named_parameters()}
    ours.zero_grad()
    library = modeling_xlm_roberta if name == "encoder" else modeling_llama
    eager = library.eager_attention_forward

    def attend(module: Any, query: torch.Tensor, *others: Any, **options: Any) -> Any:
        states, weights = eager(module, query, *others, **options)
        layer = module.layer_idx - first
        return (states + slow(layer, query) if layer >= 0 else states), weights

    monkeypatch.setattr(library, "eager_attention_forward", attend)
    expected = plain(folder)(**inputs_of(batch)).last_hidden_state[shown]
    assert_close(found, expected, 3e-5)
    (expected * target).sum().backward()
    for one, parameter in ours.prompts.named_parameters():
        assert parameter.grad.abs().max() > 1e-4
        assert_close(gradients[one], parameter.grad, 1e-3)


# LLaMA-Adapter


def slow_attention(model: TunedModel, layer: int, query: torch.Tensor, terms: int = 1) -> torch.Tensor:
    """Attention to the prompt of a layer, (batch, tokens, heads, head size), one head at a time.

    query: (batch, heads, tokens, head size), with rotary positions, if the layer has them; terms: of the score.
    """
    module = model.prompts.layers[layer]
    key_name = next(name for name in ("key", "k_proj", "key_proj") if hasattr(module, name))
    value_name = key_name.replace("key", "value").replace("k_", "v_")
    vectors = model.prompts.vectors[layer]
    keys, values = getattr(module, key_name)(vectors), getattr(module, value_name)(vectors)
    heads, size = query.shape[1], query.shape[3]
    shared = heads // (keys.shape[1] // size)
    results = []
    for head in range(heads):
        part = slice(head // shared * size, (head // shared + 1) * size)
        weights = torch.softmax(query[:, head] @ keys[:, part].T / (terms * size) ** 0.5, -1)
        results.append(torch.tanh(model.prompts.gates[layer, head]) * (weights @ values[:, part]))
    return torch.stack(results, 2)


@pytest.mark.parametrize("depth", [None, 2])
@pytest.mark.parametrize("name", PARTS)
def test_gated_prompts_follow_the_formula(models, monkeypatch, name, depth):  # noqa: F811
    ours = built(models[name], **LLAMA, prompt_depth=depth)
    assert set(dict(ours.prompts.named_parameters())) == {"vectors", "gates"}
    slow = functools.partial(slow_attention, ours)
    assert_follows(ours, models[name], name, 3 - (depth or 3), slow, monkeypatch)


def test_in_deberta_a_gated_prompt_has_the_content_term_only(tmp_path, monkeypatch):
    ours, batch = built(save_encoder(tmp_path, "deberta-v2"), **LLAMA), batch_of("tagging", "Llama")
    shown, attend = batch["attention_mask"].bool(), deberta.attend
    found = ours(batch)[shown]
    assert (found - built(tmp_path, method="linear_probe")(batch)[shown]).abs().max() > 0.1

    def slow(module: Any, query: torch.Tensor, *others: Any, **options: Any) -> Any:
        module.beside = None
        return attend(module, query, *others, **options)[0] + slow_attention(ours, module.layer_idx, query, 3), None

    monkeypatch.setattr(deberta, "attend", slow)
    assert_close(found, ours(batch)[shown], 3e-5)


def test_with_one_gate_for_all_heads_it_is_pefts_adaption_prompt(models):  # noqa: F811
    """PEFT has one gate for each layer, without tanh; the paper trains one for each head, behind a tanh."""
    ours, batch = built(models["decoder"], **LLAMA, prompt_depth=2), batch_of("tagging", "Llama")
    config = AdaptionPromptConfig(adapter_len=LENGTH, adapter_layers=2, task_type="FEATURE_EXTRACTION")
    base = AutoModel.from_pretrained(models["decoder"], attn_implementation="eager")
    oracle = get_peft_model(base, config).eval()
    gates = torch.tensor([0.4, -0.7])
    wrapped = [one for one in oracle.modules() if hasattr(one, "adaption_gate")]
    with torch.no_grad():
        for layer, (gate, module) in enumerate(zip(gates, wrapped, strict=True)):
            ours.prompts.gates[layer] = torch.atanh(gate)
            module.adaption_gate.fill_(gate)
            module.adaption_prompt.copy_(ours.prompts.vectors[layer][None])
    shown = batch["attention_mask"].bool()
    assert_close(ours(batch)[shown], oracle(**inputs_of(batch)).last_hidden_state[shown], 3e-5)


@pytest.mark.parametrize("name", [*OWN_ATTENTION, "GPT-2"])
def test_llama_adapter_is_refused_where_it_would_not_be_read(tmp_path, name):
    with pytest.raises(UserError, match=r"(cannot take prompts|no separate projections).*leave llama_adapter out"):
        build(saved(name, tmp_path), tiny_settings(**LLAMA), touched=None)


def test_more_layers_than_there_are_cannot_have_gated_prompts(models):  # noqa: F811
    with pytest.raises(UserError, match=r"methods\.llama_adapter\.prompt_depth is 4, but the encoder has 3 layers"):
        build(models["encoder"], tiny_settings(**LLAMA, prompt_depth=4), touched=None)


def test_gated_prompts_take_no_positions(models):  # noqa: F811
    """A text may use all of the encoder's positions. In prompt tuning, prompts take some of them."""
    whole = {"max_length": POSITIONS - PADDING - 1, "prompt_length": LENGTH}
    model = built(models["encoder"], loud=False, method="llama_adapter", **whole)
    untouched = built(models["encoder"], loud=False, method="linear_probe")
    ids = torch.arange(whole["max_length"])[None] + 5
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert torch.equal(model(batch), untouched(batch))
    with pytest.raises(UserError, match=f"prompt length {LENGTH} need"):
        built(models["encoder"], method="prompt_tuning", **whole)


# Prefix-Tuning+


@pytest.mark.parametrize("name", PARTS)
def test_prefix_matrices_follow_the_formula(models, monkeypatch, name):  # noqa: F811
    """Each head of the decoder has its own matrix, although two of them share keys and values."""
    ours = built(models[name], **PREFIX)
    matrices = ours.prompts.matrices
    assert matrices.shape == (3, 4, 8, 8)

    def slow(layer: int, query: torch.Tensor) -> torch.Tensor:
        """One token's vector at a time; query: (batch, heads, tokens, head size)."""
        return torch.stack(
            [
                torch.stack(
                    [
                        torch.stack([slow_elu(query[text, head, token]) @ matrices[layer, head] for head in range(4)])
                        for token in range(query.shape[2])
                    ]
                )
                for text in range(len(query))
            ]
        )

    assert_follows(ours, models[name], name, 0, slow, monkeypatch)


def slow_elu(vector: torch.Tensor) -> torch.Tensor:
    return torch.stack([one if one > 0 else torch.exp(one) - 1 for one in vector])


def test_in_deberta_prefix_matrices_read_the_contents_query(tmp_path, monkeypatch):
    ours, batch = built(save_encoder(tmp_path, "deberta-v2"), **PREFIX), batch_of("tagging", "Llama")
    shown, attend = batch["attention_mask"].bool(), deberta.attend
    found = ours(batch)[shown]
    assert (found - built(tmp_path, method="linear_probe")(batch)[shown]).abs().max() > 0.1

    def slow(module: Any, query: torch.Tensor, *others: Any, **options: Any) -> Any:
        module.beside = None
        heads = torch.nn.functional.elu(query) @ ours.prompts.matrices[module.layer_idx]
        return attend(module, query, *others, **options)[0] + heads.transpose(1, 2), None

    monkeypatch.setattr(deberta, "attend", slow)
    assert_close(found, ours(batch)[shown], 3e-5)


@pytest.mark.parametrize("name", OWN_ATTENTION)
def test_prefix_plus_is_refused_where_it_would_not_be_read(tmp_path, name):
    with pytest.raises(UserError, match=r"not all layers use the attention interface.*leave prefix_plus out"):
        build(saved(name, tmp_path), tiny_settings(**PREFIX), touched=None)
