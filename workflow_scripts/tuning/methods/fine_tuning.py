"""Fine-tuning: every parameter of the encoder is trained, with a new head (paper, figure 1 left)."""

from typing import Any

import torch
from torch import nn

from workflow_scripts.tuning.embedding import TouchedEmbedding
from workflow_scripts.tuning.heads import DenseHead, LinearHead


def head(level: str, width: int, outputs: int, settings: dict[str, Any]) -> nn.Module:
    """RoBERTa's dense classification head for texts, one linear layer for tokens."""
    return (DenseHead if level == "sequence" else LinearHead)(width, outputs, settings["dropout"])


def sentence_vector(settings: dict[str, Any]) -> str:
    """The head has a dense layer of its own, so the checkpoint's pooler is passed over."""
    return "mean" if settings["sentence_vector"] == "mean" else "first_token"


def check(encoder: Any) -> None:
    """Every architecture can be fine-tuned."""


def prepare(model: Any, settings: dict[str, Any], touched: torch.Tensor | None) -> None:
    """Free the encoder; of the word embeddings, the rows that the training data touches."""
    model.encoder.requires_grad_(True)
    pooler = getattr(model.encoder, "pooler", None)
    if pooler is not None:
        pooler.requires_grad_(False)  # nothing reads it
    words = model.encoder.get_input_embeddings()
    # A subclass does more than look up: Gemma's scales what it finds.
    if touched is not None and settings["weight_decay"] == 0 and type(words) is nn.Embedding:
        model.encoder.set_input_embeddings(TouchedEmbedding(words, touched))
