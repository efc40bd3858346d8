"""Dropout whose masks are drawn fast on a CPU.

PyTorch draws a Bernoulli variable an element; that was a third of a prompt-tuning step. Here a 64-bit word of NumPy's
SFC64 generator gives four elements, each kept if its 16 bits are at or above the threshold. The probability is a
multiple of 1/65,536, which is exact to 8e-6 of any p.
"""

import numpy as np
import torch
from torch import nn

_bits = np.random.SFC64(0)


def seed_dropout(seed: int) -> None:
    """Start the sequence of masks anew."""
    global _bits
    _bits = np.random.SFC64(seed)


def dropout_state() -> dict[str, object]:
    """Where the sequence of masks stands; give it to `restore_dropout` to go on from there."""
    return dict(_bits.state)


def restore_dropout(state: dict[str, object]) -> None:
    """Go on with the sequence of masks where `dropout_state` was taken."""
    _bits.state = state


def keep_mask(shape: torch.Size, probability: float) -> torch.Tensor:
    """A boolean tensor, True with 1 - probability."""
    count = shape.numel()
    words = _bits.random_raw((count + 3) // 4)
    kept = words.view(np.uint16)[:count] >= round(probability * 65536)
    return torch.from_numpy(kept).view(shape)


def drop(values: torch.Tensor, probability: float) -> torch.Tensor:
    """Zero each element with the probability and scale the rest by 1 / (1 - probability)."""
    if probability == 0:
        return values
    if values.device.type != "cpu":
        return nn.functional.dropout(values, probability)
    return _Drop.apply(values, keep_mask(values.shape, probability), 1 / (1 - probability))


class _Drop(torch.autograd.Function):
    """values x mask x scale; the mask is all that the backward pass needs."""

    @staticmethod
    def forward(context, values, mask, scale):  # type: ignore[no-untyped-def]
        context.save_for_backward(mask)
        context.scale = scale
        return values.mul(mask).mul_(scale)

    @staticmethod
    def backward(context, gradient):  # type: ignore[no-untyped-def]
        (mask,) = context.saved_tensors
        return gradient.mul(mask).mul_(context.scale), None, None


class Dropout(nn.Dropout):
    """A drop-in for `nn.Dropout` with the masks above."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """values: any shape."""
        return drop(values, self.p) if self.training else values


def replace_dropout(model: nn.Module) -> None:
    """Put `Dropout` in the place of every `nn.Dropout` of the model."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
