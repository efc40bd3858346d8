"""A linear probe: the encoder stays as it is and the head alone is trained (Alain and Bengio, 2016).

What the head can read off is what the encoder knew before. Dropout acts in the encoder as it does with every other
method, so that arms differ in what is tuned and in nothing else; `dropout: 0` gives features that never change.
"""

from typing import Any

import torch
from torch import nn

from workflow_scripts.tuning.heads import LinearHead


def head(level: str, width: int, outputs: int, settings: dict[str, Any]) -> nn.Module:
    """One linear layer, after the checkpoint's own frozen pooler for texts."""
    return LinearHead(width, outputs, settings["dropout"])


def sentence_vector(settings: dict[str, Any]) -> str:
    """As configured; a checkpoint without a pooler gives the first token's vector in its place."""
    return settings["sentence_vector"]


def check(encoder: Any) -> None:
    """Every architecture can be probed."""


def prepare(model: Any, settings: dict[str, Any], touched: torch.Tensor | None) -> None:
    """Nothing is added or freed."""
