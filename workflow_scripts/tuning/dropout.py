"""Dropout whose masks are drawn fast on a CPU.

PyTorch draws a Bernoulli variable an element; that was a third of a prompt-tuning step. Here a 64-bit word of NumPy's
SFC64 generator gives four elements, each kept if its 16 bits are at or above the threshold. The probability is a
multiple of 1/65,536, which is exact to 8e-6 of any p. A GPU draws its masks fast by itself.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

# Every draw takes an equal part from each stream, side by side where there are threads: the masks do not depend on
# their number.
STREAMS = 4
THREADED = 100_000  # elements from which on threads are worth their start
_bits = [np.random.SFC64(stream) for stream in range(STREAMS)]
_pool = ThreadPoolExecutor(STREAMS)


def seed_dropout(seed: int) -> None:
    """Start the sequence of masks anew."""
    global _bits
    _bits = [np.random.SFC64(child) for child in np.random.SeedSequence(seed).spawn(STREAMS)]


def dropout_state() -> list[list[int]]:
    """Where the sequence of masks stands; give it to `restore_dropout` to go on from there."""
    return [[int(word) for word in bits.state["state"]["state"]] for bits in _bits]


def restore_dropout(states: list[list[int]]) -> None:
    """Go on with the sequence of masks where `dropout_state` was taken."""
    for bits, state in zip(_bits, states, strict=True):
        bits.state = {**bits.state, "state": {"state": np.array(state, dtype=np.uint64)}}


def _drawn(count: int, probability: float, factor: np.ndarray) -> torch.Tensor:
    """`count` integers of the factor's type: 0 with the probability, else the factor. (count,)"""
    threshold = round(probability * 65536)
    part = -(-count // STREAMS)
    drawn = np.empty(STREAMS * part, dtype=factor.dtype)

    def draw(stream: int) -> None:
        words = _bits[stream].random_raw((part + 3) // 4).view(np.uint16)[:part]
        # One pass, where a boolean mask would be converted twice in every step.
        np.multiply(words >= threshold, factor, out=drawn[stream * part : (stream + 1) * part])

    if torch.get_num_threads() > 1 and count > THREADED:
        list(_pool.map(draw, range(STREAMS)))
    else:
        for stream in range(STREAMS):
            draw(stream)
    return torch.from_numpy(drawn[:count])


def scaled_mask(shape: torch.Size, probability: float, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of the shape and type: 0 with the probability, else 1 / (1 - probability)."""
    factor = torch.tensor(1 / (1 - probability), dtype=dtype)
    bits = factor.view(_INTEGERS[factor.element_size()]).numpy()
    return _drawn(shape.numel(), probability, bits).view(dtype).view(shape)


def mark_dropped(values: torch.Tensor, probability: float) -> None:
    """Give each element of a tensor without negative values a minus sign with the probability, in place."""
    integers = _INTEGERS[values.element_size()]
    sign = torch.tensor(torch.iinfo(integers).min, dtype=integers).numpy()
    signs = _drawn(values.numel(), 1 - probability, sign)
    values.view(integers).bitwise_xor_(signs.view(values.shape))


def clear_marked(values: torch.Tensor, marked: torch.Tensor) -> None:
    """Set to 0, in place, what has a minus sign in `marked`, a tensor of the same shape and type."""
    integers = _INTEGERS[values.element_size()]
    # All bits of a word set where the sign is not: an arithmetic shift repeats the sign.
    keep = (marked.view(integers) >> (8 * values.element_size() - 1)).bitwise_not_()
    values.view(integers).bitwise_and_(keep)


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
