"""Dropout whose masks are drawn fast on a CPU.

PyTorch draws a Bernoulli variable an element; that was a third of a prompt-tuning step. Here the random numbers are
the key stream of AES in counter mode (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), for which
processors have instructions: 0.1 ns a byte, where NumPy's fastest generator takes 0.25. Two bytes decide about an
element. The probability is a multiple of 1/32,768, which is exact to 1.6e-5 of any p. A GPU draws its masks fast by
itself, and so does what PyTorch's compiler makes of its own dropout.
"""

import functools

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from torch import nn

ZEROS = memoryview(bytes(1 << 18))  # what is encrypted, piece by piece: they stay in a core's cache
NUMBER = 12  # bytes of a mask's number; with the seed it tells the mask's key stream

_seed = 0
_masks = 0  # drawn since the seed was set


def seed_dropout(seed: int) -> None:
    """Start the sequence of masks anew."""
    global _seed, _masks
    _seed, _masks = seed, 0


def dropout_state() -> tuple[int, int]:
    """Where the sequence of masks stands; give it to `restore_dropout` to go on from there."""
    return _seed, _masks


def restore_dropout(state: tuple[int, int]) -> None:
    """Go on with the sequence of masks where `dropout_state` was taken."""
    global _seed, _masks
    _seed, _masks = map(int, state)


@functools.cache
def _key(seed: int) -> AES:
    return AES(np.random.SeedSequence(seed).generate_state(4).tobytes())


def random_words(count: int) -> torch.Tensor:
    """`count` integers of 16 bits, each as likely as any other. (count,)"""
    global _masks
    # PyTorch's own, aligned memory tears the heap: 30 MiB more at the peak of a training.
    words = np.empty(count, np.int16)
    # GCM is the counter mode that OpenSSL has for the widest registers; what it signs besides is not asked for.
    stream = Cipher(_key(_seed), GCM(_masks.to_bytes(NUMBER, "little"))).encryptor()
    written = words.view(np.uint8)
    for start in range(0, len(written), len(ZEROS)):
        piece = written[start : start + len(ZEROS)].data
        stream.update_into(ZEROS[: len(piece)], piece)
    _masks += 1
    return torch.from_numpy(words)


def _integer(dtype: torch.dtype) -> torch.dtype:
    """The type of integers as wide as a type."""
    found: torch.dtype = getattr(torch, f"int{8 * dtype.itemsize}")
    return found


def _negative(count: int, probability: float, dtype: torch.dtype) -> torch.Tensor:
    """`count` integers as wide as the type, negative with the probability. (count,)"""
    # Half the range, so that the difference fits.
    words = random_words(count).bitwise_right_shift_(1).sub_(round(probability * 2**15) - 2**14)
    return words.to(_integer(dtype))


@functools.cache
def _bits(number: float, dtype: torch.dtype) -> int:
    """A number of the type as the integer of its bytes."""
    return int(torch.tensor(number, dtype=dtype).view(_integer(dtype)))


def scaled_mask(shape: torch.Size, probability: float, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of the shape and type: 0 with the probability, else 1 / (1 - probability)."""
    # The sign, spread over all bits, cuts the factor out: a boolean mask would be converted twice in every step.
    kept = _negative(shape.numel(), 1 - probability, dtype).bitwise_right_shift_(8 * dtype.itemsize - 1)
    return kept.bitwise_and_(_bits(1 / (1 - probability), dtype)).view(dtype).view(shape)


def mark_dropped(values: torch.Tensor, probability: float) -> None:
    """Give each element of a tensor without negative values a minus sign with the probability, in place."""
    if torch.compiler.is_compiling():
        signs = torch.rand_like(values, dtype=torch.float32) - probability
    else:
        signs = _negative(values.numel(), probability, values.dtype).view(values.dtype).view(values.shape)
    torch.copysign(values, signs, out=values)  # of which the sign alone is read


def drop(values: torch.Tensor, probability: float) -> torch.Tensor:
    """Zero each element with the probability and scale the rest by 1 / (1 - probability)."""
    if probability == 0:
        return values
    if values.device.type != "cpu" or torch.compiler.is_compiling():
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
