"""Dropout whose masks are drawn fast on a CPU.

PyTorch draws a Bernoulli variable an element; that was a third of a prompt-tuning step. Here a 64-bit word of NumPy's
SFC64 generator gives four elements, each dropped if its 16 bits, or 15 of them, are below the threshold. The
probability is a multiple of 1/32,768, which is exact to 1.6e-5 of any p. A GPU draws its masks fast by itself.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

# Every draw takes an equal part from each stream, side by side where there are threads: the masks do not depend on
# their number.
STREAMS = 4
THREADED = 100_000  # elements from which on threads are worth their start
# And so many of PyTorch's threads: on two cores they fight with the one that waits for PyTorch's next work, and all
# that is not a product took 10 % longer than with one after the other.
FEWEST = 3
_streams = [np.random.SFC64(stream) for stream in range(STREAMS)]
_pool = ThreadPoolExecutor(STREAMS)


def seed_dropout(seed: int) -> None:
    """Start the sequence of masks anew."""
    global _streams
    _streams = [np.random.SFC64(child) for child in np.random.SeedSequence(seed).spawn(STREAMS)]


def dropout_state() -> list[list[int]]:
    """Where the sequence of masks stands; give it to `restore_dropout` to go on from there."""
    return [[int(word) for word in stream.state["state"]["state"]] for stream in _streams]


def restore_dropout(states: list[list[int]]) -> None:
    """Go on with the sequence of masks where `dropout_state` was taken."""
    for stream, state in zip(_streams, states, strict=True):
        stream.state = {**stream.state, "state": {"state": np.array(state, dtype=np.uint64)}}


def _drawn(count: int, size: int, write: Callable[[np.ndarray, np.ndarray], None]) -> torch.Tensor:
    """`count` integers of some bytes each, as `write` makes them of as many random 16-bit words. (count,)"""
    part = -(-count // STREAMS)
    drawn = np.empty(STREAMS * part, f"i{size}")

    def draw(stream: int) -> None:
        words = _streams[stream].random_raw((part + 3) // 4).view(np.uint16)
        write(words[:part], drawn[stream * part : (stream + 1) * part])

    if torch.get_num_threads() >= FEWEST and count > THREADED:
        list(_pool.map(draw, range(STREAMS)))
    else:
        for stream in range(STREAMS):
            draw(stream)
    return torch.from_numpy(drawn[:count])


@functools.cache
def _bits(number: float, dtype: torch.dtype) -> np.ndarray:
    """A number of the type as the integer of its bytes, of no dimension."""
    factor = torch.tensor(number, dtype=dtype)
    return factor.view(getattr(torch, f"int{8 * factor.element_size()}")).numpy()


def scaled_mask(shape: torch.Size, probability: float, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of the shape and type: 0 with the probability, else 1 / (1 - probability)."""
    threshold, bits = round(probability * 2**16), _bits(1 / (1 - probability), dtype)

    def write(words: np.ndarray, drawn: np.ndarray) -> None:
        # One pass, where a boolean mask would be converted twice in every step.
        np.multiply(words >= threshold, bits, out=drawn)

    return _drawn(shape.numel(), dtype.itemsize, write).view(dtype).view(shape)


def mark_dropped(values: torch.Tensor, probability: float) -> None:
    """Give each element of a tensor without negative values a minus sign with the probability, in place."""
    threshold = round(probability * 2**15)

    def write(words: np.ndarray, drawn: np.ndarray) -> None:
        np.right_shift(words, 1, out=words)
        np.subtract(words.view(np.int16), threshold, out=drawn)

    below = _drawn(values.numel(), values.element_size(), write)
    torch.copysign(values, below.view(values.dtype).view(values.shape), out=values)  # of which the sign alone is read


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
