"""Frozen bfloat16 linear layers on a CPU, against PyTorch's own linear layer in float64."""

import copy

import pytest
import torch
from tiny import settings
from torch import nn

from workflow_scripts.tuning.acceleration.packed import PackedLinear, available, pack_frozen
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.model import build

pytestmark = pytest.mark.skipif(not available(), reason="oneDNN has no bfloat16 products for this processor")


def frozen_layer(inputs: int = 24, outputs: int = 40, bias: bool = True) -> nn.Linear:
    seed_everything(1)
    return nn.Linear(inputs, outputs, bias=bias).to(torch.bfloat16).requires_grad_(False)


def packed(layer: nn.Linear) -> nn.Linear:
    twin = copy.deepcopy(layer)
    pack_frozen(twin)
    assert type(twin) is PackedLinear
    return twin


def assert_rounded(found: torch.Tensor, exact: torch.Tensor) -> None:
    """The result is the exact one rounded to bfloat16, up to the float32 error of the sum."""
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), [(24, 40), (384, 384), (33, 7)])
@pytest.mark.parametrize("texts", [1, 2, 300])
def test_results_and_gradients_are_exact_but_for_one_rounding(texts, inputs, outputs, bias):
    layer = frozen_layer(inputs, outputs, bias)
    states = torch.randn(texts, 5, inputs, dtype=torch.bfloat16)
    slope = torch.randn(texts, 5, outputs, dtype=torch.bfloat16)

    def both_ways(layer: nn.Linear, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = states.to(dtype, copy=True).requires_grad_()
        result = layer(leaf)
        result.backward(slope.to(dtype))
        return result.detach(), leaf.grad

    for found, exact in zip(
        both_ways(packed(layer), torch.bfloat16), both_ways(layer.double(), torch.float64), strict=True
    ):
        assert_rounded(found, exact)


def test_a_used_layer_holds_its_matrix_once_for_each_direction():
    layer = frozen_layer()
    ours, plain = packed(layer), layer.weight.clone()
    assert ours.weight.data_ptr() == dict(ours.named_parameters())["weight"].data_ptr()
    ours(torch.randn(3, 24, dtype=torch.bfloat16))
    assert set(dict(ours.named_parameters())) == {"bias"}
    assert torch.equal(ours.weight, plain) and torch.equal(ours.state_dict()["weight"], plain)
    assert torch.equal(ours.state_dict()["bias"], layer.bias)


def test_a_loaded_matrix_replaces_the_packed_one():
    ours, states = packed(frozen_layer()), torch.randn(3, 24, dtype=torch.bfloat16, requires_grad=True)
    ours(states).sum().backward()
    other = {"weight": torch.randn(40, 24), "bias": torch.randn(40)}
    ours.load_state_dict(other)
    states.grad = None
    result = ours(states)
    result.sum().backward()
    weight, bias = (tensor.to(torch.bfloat16).double() for tensor in other.values())
    assert_rounded(result, nn.functional.linear(states.double(), weight, bias))
    assert_rounded(states.grad, weight.sum(0).expand(3, -1))


def test_training_can_use_a_matrix_that_prediction_packed():
    ours, states = packed(frozen_layer()), torch.randn(3, 24, dtype=torch.bfloat16)
    with torch.inference_mode():
        expected = ours(states).clone()
    leaf = states.clone().requires_grad_()
    result = ours(leaf)
    result.sum().backward()
    assert torch.equal(result, expected) and leaf.grad.isfinite().all()


def test_a_layer_that_has_been_used_can_be_copied():
    ours, states = packed(frozen_layer()), torch.randn(3, 24, dtype=torch.bfloat16)
    expected = ours(states)
    assert torch.equal(copy.deepcopy(ours)(states), expected)


def test_a_layer_stays_the_module_that_it_was():
    """Including the hooks that a method has registered on it."""
    layer, seen = frozen_layer(), []
    layer.register_forward_hook(lambda *_: seen.append(None))
    pack_frozen(layer)
    layer(torch.randn(3, 24, dtype=torch.bfloat16))
    assert len(seen) == 1


OWN = 3 * 6 + 1  # linear layers of the tiny BERT: six in each of its layers, and the pooler


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "prompt_tuning"}, OWN),
        ({"method": "linear_probe"}, OWN),
        ({"method": "lora"}, OWN),  # and not the thin ones beside them
        ({"method": "bitfit"}, 0),
        ({"method": "fine_tuning"}, 1),  # the checkpoint's pooler, which its head does not use
        ({"method": "prompt_tuning", "precision": "float32"}, 0),
        ({"method": "prompt_tuning", "compile": True}, 0),
    ],
)
def test_what_is_trained_or_compiled_or_in_float32_is_left_plain(encoders, changes, expected):
    model = build(encoders["bert"], settings(**{"precision": "bfloat16"} | changes), touched=None)
    found = [layer for layer in model.modules() if isinstance(layer, PackedLinear)]
    assert not any(parameter.requires_grad for layer in found for parameter in layer.parameters())
    assert len(found) == expected
