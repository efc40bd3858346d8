"""RMS normalisation (Zhang and Sennrich, 2019) with few passes over memory, for CPUs.

Transformers computes it from six operations in float32, each of which autograd repeats or stores for the backward pass.
Here the backward pass keeps the states as they are and one number per token. Forward and backward pass of (350, 640)
elements in bfloat16 take 0.3 ms instead of 0.7, and of (1400, 640) elements 1.0 instead of 3.8 (AMD Zen 4, one core).
"""

import copy
from functools import partial
from typing import Any

import torch
from torch import nn

from workflow_scripts.tuning.backbone.layers import is_frozen

EPSILONS = ("eps", "variance_epsilon")  # the attribute's names in transformers
# By type of layer: the factor of the normalised states. Llama multiplies by the weight, Gemma by 1 + weight.
FACTORS = (lambda weight: weight.float(), lambda weight: weight.float() + 1)


class RMSNormalisation(torch.autograd.Function):
    """factor states / sqrt(mean(states^2) + epsilon), computed in float32, with a gradient for the states only."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, factor: torch.Tensor, epsilon: float, dtype: torch.dtype) -> Any:
        """The forward pass: states (..., width) to the same shape, in the given type; factor: float32 (width,)."""
        wide = states.float()
        inverse = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = inverse.square_().div_(len(factor)).add_(epsilon).rsqrt_()
        result = (wide * inverse).mul_(factor)
        ctx.save_for_backward(states, factor, inverse)
        return result.to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The backward pass: the gradient of the states."""
        states, factor, inverse = ctx.saved_tensors
        gradient, wide = gradients[0] * factor, states.float()
        shrunk = (gradient * wide).sum(-1, keepdim=True).mul_(inverse).mul_(inverse).div_(-len(factor))
        return (wide * shrunk).add_(gradient).mul_(inverse).to(states.dtype), None, None, None


def replace_normalisations(model: nn.Module) -> None:
    """Replace the forward pass of every frozen module that is an RMS normalisation.

    A module is one if it has a weight vector, an epsilon and nothing else, and computes the formula. The replacement is
    in effect on a CPU only.
    """
    for module in model.modules():
        found = formula(module)
        if found is not None:
            module.forward = partial(_normalise, module, type(module).forward, *found)


def _normalise(
    module: Any, original: Any, factor: Any, epsilon: float, widens: bool, states: torch.Tensor
) -> torch.Tensor:
    """The new forward pass of a module: states (..., width) to the same shape."""
    if not states.is_cpu:
        return original(module, states)
    dtype = torch.promote_types(states.dtype, module.weight.dtype) if widens else states.dtype
    result: torch.Tensor = RMSNormalisation.apply(states, factor(module.weight), epsilon, dtype)
    return result


def formula(module: Any) -> tuple[Any, float, bool] | None:
    """Return what an RMS normalisation computes; None for any other module.

    It consists of the factor as a function of the weight; epsilon; and whether the result has the wider of the types of
    states and weight, rather than that of the states.
    """
    names = [name for name in EPSILONS if isinstance(getattr(module, name, None), float)]
    parameters = dict(module.named_parameters())
    if not names or set(parameters) != {"weight"} or list(module.children()) or list(module.buffers()):
        return None
    weight, epsilon = parameters["weight"], getattr(module, names[0])
    if weight.dim() != 1 or not weight.is_cpu or not is_frozen(module):
        return None
    # Small states reveal epsilon, and a non-zero mean distinguishes this from layer normalisation.
    states = torch.linspace(-1, 3, 4 * len(weight)).view(4, -1) * torch.tensor([[1e-3], [1], [1], [30]])
    whole = copy.deepcopy(module).float()  # other normalisations require states of the same type as their weight
    with torch.no_grad():
        expected = whole(states)
        for factor in FACTORS:
            found = RMSNormalisation.apply(states, factor(whole.weight), epsilon, torch.float32)
            if found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-6):
                wide, narrow = module(states).dtype, module(states.bfloat16()).dtype
                return (factor, epsilon, narrow != torch.bfloat16) if wide == torch.float32 else None
    return None
