"""Computes the last layer for the first token only, if that token's vector represents the text.

The head then reads no other token's last state. This saves three quarters of the layer's matrix products and nearly all
of its attention.
"""

import inspect
from typing import Any

import torch
from torch import nn

from workflow_scripts.tuning.backbone import attention


def compute_first_token_only(encoder: Any) -> None:
    """Make an encoder return the last states of the first token only, (batch, 1, width), if its architecture allows it.

    In BERT's family (BERT, RoBERTa, XLM-R, XLM-R XL, DeBERTa) every layer has a module that adds the attention's output
    to the layer's input, and everything after it works on each token separately. A hook on the last layer's module
    drops the other tokens there, and its attention uses the first token's query only. Keys and values still cover all
    tokens. Other architectures are left unchanged.
    """
    layers = getattr(getattr(encoder, "encoder", None), "layer", None)
    last = getattr(layers[-1], "attention", None) if layers else None
    self_attention, residual = getattr(last, "self", None), getattr(last, "output", None)
    if self_attention is None or residual is None:
        return
    if list(inspect.signature(residual.forward).parameters) == ["hidden_states", "input_tensor"]:
        residual.register_forward_pre_hook(first_token)
        setattr(self_attention, attention.FIRST_QUERY_ONLY, True)


def first_token(module: nn.Module, states: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """A forward pre-hook that reduces each input (batch, tokens, width) to its first token, (batch, 1, width)."""
    return tuple(values[:, :1] for values in states)
