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


def dropout_state() -> list[int]:
    """Where the sequence of masks stands; give it to `restore_dropout` to go on from there."""
    return [int(word) for word in _bits.state["state"]["state"]]


def restore_dropout(state: list[int]) -> None:
    """Go on with the sequence of masks where `dropout_state` was taken."""
    _bits.state = {**_bits.state, "state": {"state": np.array(state, dtype=np.uint64)}}


def scaled_mask(shape: torch.Size, probability: float, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of the shape and type: 0 with the probability, else 1 / (1 - probability)."""
    count = shape.numel()
    words = _bits.random_raw((count + 3) // 4).view(np.uint16)[:count]
    # The factor's own bits times 0 or 1: one pass, where a boolean mask would be converted twice in every step.
    factor = torch.tensor(1 / (1 - probability), dtype=dtype)
    bits = factor.view(_INTEGERS[factor.element_size()]).numpy()
    kept = np.multiply(words >= round(probability * 65536), bits)
    return torch.from_numpy(kept).view(dtype).view(shape)


_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def drop(values: torch.Tensor, probability: float) -> torch.Tensor:
    """Zero each element with the probability and scale the rest by 1 / (1 - probability)."""
    if probability == 0:
        return values
    if values.device.type != "cpu":
        return nn.functional.dropout(values, probability)
    return values * scaled_mask(values.shape, probability, values.dtype)


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
