"""Dropout with fast mask generation on a CPU.

PyTorch draws a Bernoulli variable per element, which took a third of a prompt-tuning step. Here the random numbers are
the key stream of AES in counter mode (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), which
processors compute in hardware: 0.1 ns per byte, against 0.25 for NumPy's fastest generator. Two bytes decide about an
element, so the probability is rounded to a multiple of 1/32,768, an error of at most 1.6e-5. On a GPU and in compiled
code PyTorch's own dropout is fast and is used.
"""

import functools

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from torch import nn

ZEROS = memoryview(bytes(1 << 18))  # the plaintext, encrypted block by block; small enough to stay in a core's cache
NUMBER = 12  # bytes of a mask's number, the nonce; seed and number determine the mask's key stream

_seed = 0
_masks = 0  # drawn since the seed was set


def seed_dropout(seed: int) -> None:
    """Restart the sequence of masks with a seed."""
    global _seed, _masks
    _seed, _masks = seed, 0


def dropout_state() -> tuple[int, int]:
    """Return the position in the sequence of masks, for `restore_dropout`."""
    return _seed, _masks


def restore_dropout(state: tuple[int, int]) -> None:
    """Continue the sequence of masks at a position from `dropout_state`."""
    global _seed, _masks
    _seed, _masks = map(int, state)


@functools.cache
def _key(seed: int) -> AES:
    return AES(np.random.SeedSequence(seed).generate_state(4).tobytes())


def random_words(count: int) -> torch.Tensor:
    """Return uniformly distributed 16-bit integers, int16 (count,)."""
    global _masks
    # NumPy allocates: PyTorch's aligned allocations fragment the heap (30 MiB more at the peak of a training).
    words = np.empty(count, np.int16)
    # GCM is the counter mode for which OpenSSL uses the widest registers; its authentication tag is not computed.
    stream = Cipher(_key(_seed), GCM(_masks.to_bytes(NUMBER, "little"))).encryptor()
    written = words.view(np.uint8)
    for start in range(0, len(written), len(ZEROS)):
        piece = written[start : start + len(ZEROS)].data
        stream.update_into(ZEROS[: len(piece)], piece)
    _masks += 1
    return torch.from_numpy(words)


def _integer(dtype: torch.dtype) -> torch.dtype:
    """Return the integer type of the same width as a type."""
    found: torch.dtype = getattr(torch, f"int{8 * dtype.itemsize}")
    return found


def _negative(count: int, probability: float, dtype: torch.dtype) -> torch.Tensor:
    """Return integers as wide as the type, each negative with the given probability: (count,)."""
    # Shifted to half the range, so that the difference does not overflow.
    words = random_words(count).bitwise_right_shift_(1).sub_(round(probability * 2**15) - 2**14)
    return words.to(_integer(dtype))


@functools.cache
def _bits(number: float, dtype: torch.dtype) -> int:
    """Return the bit pattern of a number of the type, as an integer."""
    return int(torch.tensor(number, dtype=dtype).view(_integer(dtype)))


def scaled_mask(shape: torch.Size, probability: float, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor of the shape and type: each element 0 with the probability, else 1 / (1 - probability)."""
    # The sign bit, copied to all bits, masks the factor's bits; a boolean mask would need two conversions per step.
    kept = _negative(shape.numel(), 1 - probability, dtype).bitwise_right_shift_(8 * dtype.itemsize - 1)
    return kept.bitwise_and_(_bits(1 / (1 - probability), dtype)).view(dtype).view(shape)


def mark_dropped(values: torch.Tensor, probability: float) -> None:
    """Negate each element of a tensor of non-negative values with the probability, in place."""
    if torch.compiler.is_compiling():
        signs = torch.rand_like(values, dtype=torch.float32) - probability
    else:
        signs = _negative(values.numel(), probability, values.dtype).view(values.dtype).view(values.shape)
    torch.copysign(values, signs, out=values)


def drop(values: torch.Tensor, probability: float) -> torch.Tensor:
    """Set each element to 0 with the probability and scale the others by 1 / (1 - probability)."""
    if probability == 0:
        return values
    if values.device.type != "cpu" or torch.compiler.is_compiling():
        return nn.functional.dropout(values, probability)
    return values * scaled_mask(values.shape, probability, values.dtype)


class Dropout(nn.Dropout):
    """A drop-in replacement for `nn.Dropout` that uses `drop`."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Apply dropout in training; values may have any shape."""
        return drop(values, self.p) if self.training else values


def replace_dropout(model: nn.Module) -> None:
    """Replace every `nn.Dropout` of the model by `Dropout`."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
