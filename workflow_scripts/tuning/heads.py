"""Heads, which map the encoder's vectors to logits."""

from torch import nn

from workflow_scripts.tuning.acceleration.dropout import Dropout

HEAD_STD = 0.02  # standard deviation of the initial weights, as in BERT and RoBERTa


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer initialised as in BERT: weights from a normal distribution of std 0.02, bias 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=HEAD_STD)
    nn.init.zeros_(layer.bias)
    return layer


class LinearHead(nn.Sequential):
    """Dropout and a linear layer, applied to a text's vector or to each token's: (..., width) -> (..., outputs)."""

    def __init__(self, width: int, outputs: int, dropout: float) -> None:
        super().__init__(Dropout(dropout), linear(width, outputs))


class DenseHead(nn.Sequential):
    """RoBERTa's classification head: dropout, dense, tanh, dropout, linear. (batch, width) -> (batch, outputs)."""

    def __init__(self, width: int, outputs: int, dropout: float) -> None:
        super().__init__(Dropout(dropout), linear(width, width), nn.Tanh(), Dropout(dropout), linear(width, outputs))
