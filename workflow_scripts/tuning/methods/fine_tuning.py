"""Fine-tuning: trains every parameter of the encoder and a new head (paper, figure 1 left)."""

from typing import Any

import torch
from torch import nn

from workflow_scripts.tuning.acceleration.embedding import TouchedEmbedding
from workflow_scripts.tuning.heads import DenseHead, LinearHead
from workflow_scripts.tuning.settings import TrainingSettings


def head(level: str, width: int, outputs: int, settings: TrainingSettings) -> nn.Module:
    """Return RoBERTa's dense classification head for texts, one linear layer for tokens."""
    return (DenseHead if level == "sequence" else LinearHead)(width, outputs, settings.dropout)


def sentence_vector(settings: TrainingSettings) -> str:
    """Return "mean" if configured, else "first_token": the head's own dense layer replaces the checkpoint's pooler."""
    return "mean" if settings.sentence_vector == "mean" else "first_token"


def check(encoder: Any, settings: TrainingSettings) -> None:
    """Accept every architecture."""


def prepare(model: Any, settings: TrainingSettings, touched: torch.Tensor | None) -> None:
    """Unfreeze the encoder; of the word embeddings only the rows that occur in the training data.

    Of an output layer, the vectors of the vocabulary stay frozen.
    """
    model.encoder.requires_grad_(True)
    pooler = getattr(model.encoder, "pooler", None)
    if pooler is not None:
        pooler.requires_grad_(False)  # its output is not used
    if model.output_layer is not None:
        model.output_layer.unfreeze(model.encoder)
    words = model.encoder.get_input_embeddings()
    # Subclasses do more than look up rows: Gemma's scales them.
    if touched is not None and settings.weight_decay == 0 and type(words) is nn.Embedding:
        model.encoder.set_input_embeddings(TouchedEmbedding(words, touched))
