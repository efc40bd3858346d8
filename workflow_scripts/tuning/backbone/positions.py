"""Positions: how a model counts them, and where the texts begin after a prompt."""

import sys
from typing import Any

import torch


def first_position(model: Any) -> int:
    """Return the position of a text's first token: the padding id + 1 in RoBERTa's family, 0 elsewhere."""
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def positions_available(model: Any) -> int:
    """Return the most tokens that the model has positions for, special tokens included.

    Models with relative positions only, such as mT5 and BLOOM, have no limit.
    """
    most = getattr(model.config, "max_position_embeddings", None)
    return sys.maxsize if most is None else int(most) - first_position(model)


def padding_id(model: Any) -> int:
    """Return the id that pads short texts; the attention mask hides it."""
    return max(0, model.config.pad_token_id or 0)  # -1, as in the first Llama: there is none


def position_ids(model: Any, attention_mask: torch.Tensor, after: int) -> torch.Tensor:
    """Return the position ids of texts that follow `after` prompt positions.

    attention_mask and the result: (batch, tokens). Padding may be on either side.
    """
    if first := first_position(model):
        return (attention_mask.cumsum(1) + after) * attention_mask + first - 1
    return (attention_mask.cumsum(1) - 1).clamp(min=0) + after
