"""The last layer for the first token alone: where that stands for a text, nothing reads what becomes of the others
after they have been attended to. What it saves is three quarters of the layer's products and nearly all its attention.
"""

import inspect
from typing import Any

import torch
from torch import nn

from workflow_scripts.tuning import attention


def compute_first_token_alone(encoder: Any) -> None:
    """Let an encoder's last states be those of the first token, (batch, 1, width), where its architecture allows it.

    BERT and its kin (RoBERTa, XLM-R, XLM-R XL, DeBERTa) have a module in every layer where the attention's result meets
    the layer's input; all that follows works on each token by itself. What goes before is for all tokens, but that only
    the first one attends. Others are left as they are.
    """
    layers = getattr(getattr(encoder, "encoder", None), "layer", None)
    last = getattr(layers[-1], "attention", None) if layers else None
    attending, meeting = getattr(last, "self", None), getattr(last, "output", None)
    if attending is None or meeting is None:
        return
    if list(inspect.signature(meeting.forward).parameters) == ["hidden_states", "input_tensor"]:
        meeting.register_forward_pre_hook(first_token)
        setattr(attending, attention.FIRST, True)


def first_token(module: nn.Module, states: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Of every (batch, tokens, width) that a module is given, the first token's (batch, 1, width)."""
    return tuple(values[:, :1] for values in states)
