"""Frozen weights in bfloat16, converted once."""

from typing import Any

import torch
from torch import nn

from workflow_scripts.tuning.backbone.layers import is_frozen

ALL_BFLOAT16 = "all_bfloat16"  # attribute set on an encoder that runs in bfloat16 without autocast


def use_bfloat16(encoder: Any) -> None:
    """Convert frozen weights to bfloat16 once, which autocast would do in every step, and keep the states in bfloat16.

    Embeddings stay in float32. A wholly frozen encoder then runs without autocast, whose conversions around the
    normalisations were a quarter of a step's kernels on a GPU. In an encoder with trainable parameters only the frozen
    linear layers are converted; trainable parameters stay in float32.
    """
    # EuroBERT and EmbeddingGemma have no `embeddings` module: their word vectors are the first states.
    first = getattr(encoder, "embeddings", None) or encoder.get_input_embeddings()
    frozen = is_frozen(encoder)
    kept, words = set(first.modules()), set(encoder.get_input_embeddings().modules())
    for module in encoder.modules():
        converted = module not in kept and (frozen or isinstance(module, nn.Linear))
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad and (converted or module not in words):
                # Copied even when the type stays the same: one view would keep the whole mapped checkpoint in memory.
                parameter.data = parameter.data.to(torch.bfloat16 if converted else parameter.dtype, copy=True)
    setattr(encoder, ALL_BFLOAT16, frozen)
    first.register_forward_hook(lambda module, inputs, states: states.to(torch.bfloat16))
