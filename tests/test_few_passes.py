"""Normalisations, activations and attention with few passes over the memory, against autograd in float64."""

import copy
import math
from typing import Any

import pytest
import torch
from test_decoders import FAMILIES
from torch import nn
from transformers import AutoModel
from transformers.activations import ACT2FN

from workflow_scripts.tuning.acceleration.activation import GELUTanh, is_gelu_tanh, replace_activations
from workflow_scripts.tuning.acceleration.normalisation import formula, replace_normalisations
from workflow_scripts.tuning.acceleration.plain_attention import PlainAttention
from workflow_scripts.tuning.backbone.layers import layers

RMS_NORMALISED = ["Llama", "Qwen 2", "Qwen 3", "Gemma 2", "Gemma 3", "Mistral", "mT5", "T5Gemma"]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7}


def both_ways(function: Any, inputs: torch.Tensor, slope: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and gradient of a function."""
    leaf = inputs.detach().clone().requires_grad_()
    result = function(leaf)
    result.backward(slope.to(result.dtype))
    assert leaf.grad is not None
    return result.detach(), leaf.grad


def assert_like_float64(function: Any, exact: Any, inputs: torch.Tensor) -> None:
    slope = torch.randn_like(inputs)
    tolerance = TOLERANCE[inputs.dtype]
    expected = both_ways(exact, inputs.double(), slope.double())
    for found, wanted in zip(both_ways(function, inputs, slope), expected, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance)


def normalisations(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if "Norm" in type(module).__name__]


def made(name: str) -> Any:
    torch.manual_seed(0)
    model = AutoModel.from_config(FAMILIES[name]).requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.get_encoder() if model.config.is_encoder_decoder else model


# T5 rounds states to the type of a bfloat16 weight, which is another formula.
@pytest.mark.parametrize("states", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        (name, weights)
        for name in RMS_NORMALISED
        for weights in (torch.float32, torch.bfloat16)
        if (name, weights) != ("mT5", torch.bfloat16)
    ],
    ids=str,
)
def test_every_normalisation_of_a_model_gives_its_formulas_value_and_gradient(name, states, weights):
    model = made(name)
    for module in normalisations(model):
        module.to(weights)
    plain, found = normalisations(copy.deepcopy(model)), normalisations(model)
    replace_normalisations(model)
    assert found
    for ours, original in zip(found, plain, strict=True):
        assert "forward" in vars(ours)
        inputs = (3 * torch.randn(2, 5, len(ours.weight)) + 1).to(states)
        assert ours(inputs).dtype == original(inputs).dtype
        epsilon = next(value for key, value in vars(ours).items() if key in ("eps", "variance_epsilon"))
        # Gemma's weight is the difference from 1.
        factor = ours.weight.double() + ("Gemma" in name)

        def exact(values: torch.Tensor, factor: Any = factor, epsilon: float = epsilon) -> torch.Tensor:
            return factor * values / (values.square().mean(-1, keepdim=True) + epsilon).sqrt()

        assert_like_float64(ours, exact, inputs)


@pytest.mark.parametrize("name", ["GPT-2", "XGLM", "BLOOM", "mBART", "mT5"])
def test_other_normalisations_are_left_unchanged(name):
    model = made(name).to(torch.bfloat16)
    replace_normalisations(model)
    assert normalisations(model) and not any("forward" in vars(module) for module in model.modules())


def test_a_normalisation_that_is_trained_or_computes_something_else_is_left_unchanged():
    normalised = made("Llama").norm
    assert formula(normalised) is not None
    assert formula(copy.deepcopy(normalised).requires_grad_(True)) is None

    class Tripled(type(normalised)):  # type: ignore[misc]
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return 3 * super().forward(states)

    assert formula(Tripled(32).requires_grad_(False)) is None
    for dtype in TOLERANCE:
        assert formula(nn.LayerNorm(32, bias=False, dtype=dtype).requires_grad_(False)) is None


def test_a_replaced_normalisation_can_be_copied_with_other_weights():
    model = made("Llama")
    replace_normalisations(model)
    twin = copy.deepcopy(model.norm)
    twin.weight.data.zero_()
    states = torch.randn(2, 32)
    assert not twin(states).any() and model.norm(states).any()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_gelu_gives_pytorchs_value_and_gradient(dtype):
    inputs = torch.cat((torch.linspace(-30, 30, 2001), torch.tensor([0.0, 1e-4, -1e-4, 200, -200]))).to(dtype)
    assert_like_float64(GELUTanh(), lambda values: nn.functional.gelu(values, approximate="tanh"), inputs)


def test_only_gelus_tanh_form_is_replaced():
    same = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh")
    for name in ACT2FN:
        if name not in ("prelu", "swish"):
            assert is_gelu_tanh(ACT2FN[name]) == (name in same), name
    model = made("Gemma 3")
    replace_activations(model)
    assert all(isinstance(layer.mlp.act_fn, GELUTanh) for layer in layers(model))


@pytest.mark.parametrize("mask_shape", [(2, 1, 1, 9), (2, 1, 7, 9), (1, 6, 7, 9), (1, 1, 1, 9), None], ids=str)
@pytest.mark.parametrize("key_heads", [1, 2, 3, 6])
def test_heads_that_share_a_key_head_attend_as_if_it_were_repeated(key_heads, mask_shape):
    torch.manual_seed(key_heads)
    tensors = [torch.randn(2, 6, 7, 4), torch.randn(2, key_heads, 9, 4), torch.randn(2, key_heads, 9, 4)]
    mask = None if mask_shape is None else torch.randn(mask_shape)
    slope = torch.randn(2, 6, 7, 4)

    def gradients(attention: Any, dtype: torch.dtype) -> list[torch.Tensor]:
        query, key, value, *bias = (
            tensor.to(dtype, copy=True).requires_grad_() for tensor in (*tensors, *([] if mask is None else [mask]))
        )
        result = attention(query, key, value, bias[0] if bias else None)
        result.backward(slope.to(dtype))
        return [result, *(leaf.grad for leaf in (query, key, value, *bias))]

    def repeated(query: Any, key: Any, value: Any, mask: Any) -> torch.Tensor:
        key, value = (part.repeat_interleave(6 // key_heads, dim=1) for part in (key, value))
        scores = query @ key.transpose(2, 3) / math.sqrt(4)
        return torch.softmax(scores if mask is None else scores + mask, -1) @ value

    def ours(*inputs: Any) -> torch.Tensor:
        return PlainAttention.apply(*inputs, 1 / math.sqrt(4), 0.0)

    for found, wanted in zip(gradients(ours, torch.float32), gradients(repeated, torch.float64), strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
