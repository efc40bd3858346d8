"""Frozen linear layers whose weights take 4 or 8 bits each, for `training.quantise`.

Only the stored weights are rounded. Each forward and backward pass restores one layer's matrix at a time in the number
format of the layer's products, so activations and gradients are those of a model with the restored weights.

`nf4` is the 4-bit NormalFloat of Dettmers et al., 2023 ("QLoRA: Efficient Finetuning of Quantized LLMs"), computed by
bitsandbytes: each block of 64 weights has a float32 scale, 4.5 bits per weight in all. `int8` divides each row by its
largest magnitude / 127 and rounds to integers, as the row-wise quantisation of Dettmers et al., 2022 ("LLM.int8()");
activations are not rounded. It needs no package.

bitsandbytes restores a 1,536 x 1,536 matrix in 3.5 ms on one Intel core; torchao's NF4 takes 55 ms, and requires
matrices whose size is a multiple of 16,384.
"""

import functools
import importlib
import importlib.util
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from workflow_scripts.core.errors import UserError
from workflow_scripts.tuning.acceleration.lean import without_compiler

Quantisation = Literal["nf4", "int8"]

BLOCK = 64  # weights that share a scale in NF4, the block size of QLoRA
LARGEST = 127  # the largest 8-bit code; -128 is not used
PACKAGE = "bitsandbytes"
INSTALL = "pip install --constraint envs/constraints.txt --requirement envs/quantise.txt"


class QuantisedLinear(nn.Linear):
    """A drop-in replacement for a frozen `nn.Linear`; `weight` restores the matrix on access.

    Made by `quantise_layer` from a layer object, whose class changes in place: a method may have registered hooks on
    the object, or wrapped it, as LoRA does.
    """

    quantisation: Quantisation
    dtype: torch.dtype  # of the restored matrix and of the products
    codes: torch.Tensor  # int8 (out_features, in_features); in NF4 uint8 (bytes, 1), two codes per byte
    scales: torch.Tensor  # float32 (out_features, 1); in NF4 (blocks,)

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """The restored matrix, (out_features, in_features). It has no gradient."""
        with torch.no_grad():
            if self.quantisation == "int8":
                return (self.codes * self.scales).to(self.dtype)
            library, blocks = _library(), torch.Size((len(self.scales), BLOCK))
            state = library.QuantState(
                self.scales, shape=blocks, dtype=self.dtype, blocksize=BLOCK, quant_type=self.quantisation
            )
            restored: torch.Tensor = library.dequantize_4bit(self.codes, state)
            return restored.flatten()[: self.out_features * self.in_features].view(self.out_features, self.in_features)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features)."""
        product: torch.Tensor = QuantisedProduct.apply(states.to(self.dtype), self)
        return product


class QuantisedProduct(torch.autograd.Function):
    """states weight^T + bias, with a gradient for the states only. The restored matrix is not kept in between."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, layer: QuantisedLinear) -> Any:
        """The forward pass: states (..., in_features) to (..., out_features)."""
        ctx.layer = layer
        return nn.functional.linear(states, layer.weight, layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The backward pass: the gradient of the states."""
        return gradients[0] @ ctx.layer.weight, None


def quantise_layer(layer: nn.Linear, quantisation: Quantisation, dtype: torch.dtype) -> None:
    """Turn a frozen linear layer into a `QuantisedLinear`; its bias is not changed.

    Args:
        layer: a layer in the number format of the checkpoint; its weights may be memory-mapped.
        quantisation: "nf4" or "int8".
        dtype: the number format in which the layer is to compute.
    """
    weight = layer.weight.detach().float()
    if quantisation == "nf4":
        # One row per block: on a CPU, bitsandbytes 0.50.2 restores rows that end within a block with wrong scales.
        blocks = nn.functional.pad(weight.flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK)
        codes, state = _library().quantize_4bit(blocks, blocksize=BLOCK, quant_type="nf4")
        scales = state.absmax
    else:
        scales = weight.abs().amax(1, keepdim=True) / LARGEST
        codes = (weight / scales.clamp(min=torch.finfo().tiny)).round().to(torch.int8)  # a row of zeros stays one
    del layer._parameters["weight"]
    layer.__class__ = QuantisedLinear
    made: Any = layer
    made.quantisation, made.dtype = quantisation, dtype
    made.register_buffer("codes", codes, persistent=False)
    made.register_buffer("scales", scales, persistent=False)


def check_quantisable(encoder: Any, quantisation: Quantisation) -> None:
    """Check that an encoder can be quantised here; its weights need not be loaded.

    Raises UserError if the package is missing or does not work on this machine, or if most of the encoder's weights are
    not in linear layers: GPT-2 has transposed convolutions, mixtures of experts have stacks of matrices.
    """
    if quantisation == "nf4":
        _library()
    weights: Counter[str] = Counter()
    for module in encoder.modules():
        if not isinstance(module, nn.Embedding):
            weights[type(module).__name__] += sum(
                parameter.numel() for parameter in module.parameters(recurse=False) if parameter.dim() > 1
            )
    if 2 * weights[nn.Linear.__name__] <= weights.total():
        largest = weights.most_common(1)[0][0]
        raise UserError(
            f"training.quantise: models of the type {encoder.config.model_type!r} have most of their weights in modules"
            f" other than linear layers ({largest}), which are not quantised: set it to null"
        )


def check_frozen(pretrained: Mapping[str, nn.Parameter], method: str, quantisation: Quantisation) -> None:
    """Raise UserError if a method trains a pretrained parameter of the encoder, given by name."""
    trained = next((name for name, parameter in pretrained.items() if parameter.requires_grad), None)
    if trained:
        raise UserError(
            f"methods.{method}.quantise: found {quantisation!r}; {method} trains the encoder's own weights ({trained}),"
            " which cannot be quantised: set it to null"
        )


@functools.cache
def _library() -> Any:
    """Return the functions of bitsandbytes. Raises UserError if they cannot be imported."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise UserError(f"training.quantise: nf4 needs the package {PACKAGE}: {INSTALL}")
    try:
        with without_compiler():
            return importlib.import_module(f"{PACKAGE}.functional")
    except Exception as error:
        raise UserError(
            f"training.quantise: the package {PACKAGE} cannot be imported ({error}): set it to int8, or reinstall:"
            f" {INSTALL} --force-reinstall --no-deps"
        ) from error
