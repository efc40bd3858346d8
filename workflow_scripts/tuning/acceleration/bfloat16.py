"""The number format of each weight, converted once from that of the checkpoint."""

from typing import Any

import torch
from torch import nn

from workflow_scripts.tuning.acceleration.quantised import Quantisation, quantise_layer
from workflow_scripts.tuning.backbone.layers import is_frozen, layers

ALL_BFLOAT16 = "all_bfloat16"  # attribute set on an encoder that runs in bfloat16 without autocast


def set_precision(encoder: Any, precision: str, quantise: Quantisation | None = None) -> None:
    """Give each weight its number format: float32, or bfloat16 for frozen weights if that is the precision.

    Autocast would convert frozen weights in every step. Embeddings and trainable parameters are float32. A wholly
    frozen encoder in bfloat16 then runs without autocast, whose conversions around the normalisations were a quarter of
    a step's kernels on a GPU, and keeps its states in bfloat16. In an encoder with trainable parameters only the frozen
    linear layers are converted.

    With `quantise`, the matrices of frozen linear layers are quantised instead, from the checkpoint's number format.

    Weights are converted one by one, so that no second copy of the model is ever in memory.
    """
    # EuroBERT and EmbeddingGemma have no `embeddings` module: their word vectors are the first states.
    first = getattr(encoder, "embeddings", None) or encoder.get_input_embeddings()
    frozen, rounded = is_frozen(encoder), precision == "bfloat16"
    kept, words = set(first.modules()), set(encoder.get_input_embeddings().modules())
    for module in encoder.modules():
        converted = rounded and module not in kept and (frozen or isinstance(module, nn.Linear))
        if quantise and type(module) is nn.Linear and module not in kept and is_frozen(module):
            quantise_layer(module, quantise, torch.bfloat16 if rounded else torch.float32)
        for parameter in module.parameters(recurse=False):
            dtype = torch.bfloat16 if converted and not parameter.requires_grad else torch.float32
            # Copied even when the type stays the same: one view would keep the whole mapped checkpoint in memory.
            copy = rounded and not parameter.requires_grad and (converted or module not in words)
            parameter.data = parameter.data.to(dtype, copy=copy)
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point():
                setattr(module, name, buffer.float())
    setattr(encoder, ALL_BFLOAT16, frozen and rounded)
    if rounded:
        first.register_forward_hook(lambda module, inputs, states: states.to(torch.bfloat16))
        for layer in layers(encoder)[:1]:  # XGLM adds positions in float32 to the word vectors
            layer.register_forward_pre_hook(lambda module, inputs: tuple(_rounded(value) for value in inputs))


def set_output_precision(output_layer: nn.Module, encoder: nn.Module, precision: str) -> None:
    """Give the weights of an output layer their number format, except those that it shares with the encoder.

    Frozen matrices are bfloat16 if that is the precision: autocast would convert the vocabulary in every step.
    """
    shared = set(map(id, encoder.parameters()))
    for parameter in output_layer.parameters():
        if id(parameter) not in shared:
            rounded = precision == "bfloat16" and parameter.dim() > 1 and not parameter.requires_grad
            parameter.data = parameter.data.to(torch.bfloat16 if rounded else torch.float32)
    for module in output_layer.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point():
                setattr(module, name, buffer.float())


def _rounded(value: Any) -> Any:
    """A floating-point tensor in bfloat16; anything else unchanged."""
    return value.to(torch.bfloat16) if torch.is_tensor(value) and value.dtype == torch.float32 else value
