"""A linear probe: trains only the head; the encoder stays frozen (Alain and Bengio, 2016).

It measures what the pretrained encoder already represents. Dropout is active in the encoder, as with every method, so
that methods differ only in what they tune. With `dropout: 0` the features are constant.
"""

from typing import Any

import torch
from torch import nn

from workflow_scripts.core.settings import given
from workflow_scripts.tuning.heads import LinearHead
from workflow_scripts.tuning.settings import TrainingSettings


def head(level: str, width: int, outputs: int, settings: TrainingSettings) -> nn.Module:
    """Return one linear layer; for texts it follows the checkpoint's own frozen pooler."""
    return LinearHead(width, outputs, settings.dropout)


def sentence_vector(settings: TrainingSettings) -> str:
    """Return the configured vector; in a checkpoint without a pooler, "pooler" means the first token's vector."""
    return given(settings.sentence_vector, "sentence_vector")


def check(encoder: Any, settings: TrainingSettings) -> None:
    """Accept every architecture."""


def prepare(model: Any, settings: TrainingSettings, touched: torch.Tensor | None) -> None:
    """Do nothing: only the head is trained."""
