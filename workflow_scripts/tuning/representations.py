"""Representations of texts: the first token's vector after the last layer (paper, section 5); in a decoder the last."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from workflow_scripts.kinds.tokens import Tokens
from workflow_scripts.tuning.acceleration.bfloat16 import set_precision
from workflow_scripts.tuning.acceleration.embedding import ids_in, keep_rows
from workflow_scripts.tuning.acceleration.first_token import compute_first_token_only
from workflow_scripts.tuning.acceleration.last_token import compute_last_token_only
from workflow_scripts.tuning.backbone import attention
from workflow_scripts.tuning.backbone.loading import load_encoder
from workflow_scripts.tuning.backbone.readout import text_vector_of
from workflow_scripts.tuning.model import TunedModel
from workflow_scripts.tuning.predict import logits


def untuned_model(folder: Path, precision: str, texts: Sequence[Tokens]) -> TunedModel:
    """Return the encoder before any tuning, without prompts and with an identity head.

    Args:
        folder: the encoder's folder.
        precision: "bfloat16" or "float32". Use that of `training`: the tuned models that this one is compared with
            have it too, unless a task or a method sets its own.
        texts: all texts that the model will read.
    """
    encoder = load_encoder(folder, attention.NAME).requires_grad_(False)
    keep_rows(encoder, ids_in(*texts))
    set_precision(encoder, precision)
    model = _reader(encoder)
    if model.needs_only_first_token():
        compute_first_token_only(encoder)
    if model.needs_only_last_token():
        compute_last_token_only(encoder)
    return model


def representations(model: TunedModel, tokens: Tokens, precision: str, device: torch.device) -> np.ndarray:
    """Return the vector of each feature, in the features' order: (features, width), float32.

    The forward pass is that of prediction, including prompts and shifted positions; only the head is skipped.
    """
    reader = _reader(model.encoder)
    reader.prompts, reader.prompt_length = model.prompts, model.prompt_length
    return np.stack(logits(reader, tokens, precision, device))


def _reader(encoder: Any) -> TunedModel:
    """A model whose output is the vector of a text."""
    return TunedModel(encoder, nn.Identity(), "sequence", text_vector_of(encoder, "first_token"))
