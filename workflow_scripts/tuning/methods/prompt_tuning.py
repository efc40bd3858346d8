"""Deep prompt tuning: trained key and value vectors in the layers, the encoder frozen (paper, section 2).

Settings: `prompt_length` (vectors a layer), `prompt_std` (deviation of their initial values), `prompt_depth` (null for
every layer, as in the paper, or how many of the last ones) and `prompt_projection` (null, as in the paper, or the width
of a reparameterisation network).
"""

from typing import Any

import torch
from torch import nn

from workflow_scripts.tuning.heads import LinearHead
from workflow_scripts.tuning.prompts import Prompts, attention_modules, reparameterise


def head(level: str, width: int, outputs: int, settings: dict[str, Any]) -> nn.Module:
    """One linear layer, after the checkpoint's own frozen pooler for texts."""
    return LinearHead(width, outputs, settings["dropout"])


def sentence_vector(settings: dict[str, Any]) -> str:
    """As configured; a checkpoint without a pooler gives the first token's vector in its place."""
    return settings["sentence_vector"]


def check(encoder: Any) -> None:
    """Every layer must go through the attention interface."""
    attention_modules(encoder)


def prepare(model: Any, settings: dict[str, Any], touched: torch.Tensor | None) -> None:
    """Add the prompts."""
    length, std, depth = settings["prompt_length"], settings["prompt_std"], settings.get("prompt_depth")
    model.prompts = Prompts(model.encoder, length, std, settings["dropout"], depth)
    if hidden := settings.get("prompt_projection"):
        reparameterise(model.prompts, model.encoder.config.hidden_size, hidden)
    model.prompt_length = settings["prompt_length"]
