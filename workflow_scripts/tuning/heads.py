"""Heads: from the encoder's vectors to logits."""

import torch
from torch import nn

from workflow_scripts.tuning.dropout import Dropout

HEAD_STD = 0.02  # the deviation that BERT's and RoBERTa's linear layers are initialised with


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer initialised as BERT's: N(0, 0.02), the bias at 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=HEAD_STD)
    nn.init.zeros_(layer.bias)
    return layer


class LinearHead(nn.Sequential):
    """Dropout and one linear layer on a text's or on every token's vector: (..., width) -> (..., outputs)."""

    def __init__(self, width: int, outputs: int, dropout: float) -> None:
        super().__init__(Dropout(dropout), linear(width, outputs))


class DenseHead(nn.Sequential):
    """RoBERTa's classification head: dropout, dense, tanh, dropout, linear. (batch, width) -> (batch, outputs)."""

    def __init__(self, width: int, outputs: int, dropout: float) -> None:
        super().__init__(Dropout(dropout), linear(width, width), nn.Tanh(), Dropout(dropout), linear(width, outputs))


def mean(states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The mean of a text's vectors, padding left out: (batch, tokens, width) -> (batch, width)."""
    weights = attention_mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
