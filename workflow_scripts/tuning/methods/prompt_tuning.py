"""Deep prompt tuning: trains key and value vectors in each layer; the encoder stays frozen (paper, section 2).

Settings: `prompt_length` (vectors per layer), `prompt_std` (standard deviation of their initial values), `prompt_depth`
(how many of the last layers have prompts; null for all, as in the paper) and `prompt_projection` (the hidden width of a
reparameterisation network; null for none, as in the paper).
"""

from typing import Any

import torch
from torch import nn

from workflow_scripts.core.settings import given
from workflow_scripts.tuning.backbone.layers import attention_modules
from workflow_scripts.tuning.heads import LinearHead
from workflow_scripts.tuning.prompts import Prompts, reparameterise
from workflow_scripts.tuning.settings import TrainingSettings


def head(level: str, width: int, outputs: int, settings: TrainingSettings) -> nn.Module:
    """Return one linear layer; for texts it follows the checkpoint's own frozen pooler."""
    return LinearHead(width, outputs, settings.dropout)


def sentence_vector(settings: TrainingSettings) -> str:
    """Return the configured vector; in a checkpoint without a pooler, "pooler" means the first token's vector."""
    return given(settings.sentence_vector, "sentence_vector")


def check(encoder: Any, settings: TrainingSettings) -> None:
    """Raise UserError if a layer does not use the attention interface of transformers."""
    attention_modules(encoder)


def prepare(model: Any, settings: TrainingSettings, touched: torch.Tensor | None) -> None:
    """Add the prompts. Raises UserError if `prompt_depth` exceeds the number of layers."""
    length, std = settings.prompt_length, given(settings.prompt_std, "prompt_std")
    model.prompts = Prompts(model.encoder, length, std, settings.dropout, settings.prompt_depth)
    if hidden := settings.prompt_projection:
        reparameterise(model.prompts, model.encoder.config.hidden_size, hidden)
    model.prompt_length = length
