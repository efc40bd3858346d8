"""The vector that represents a text."""

from typing import Any

import torch

from workflow_scripts.encoders.architecture import kind_of


def text_vector_of(model: Any, wanted: str) -> str:
    """Return which vector represents a text in this model: "pooler", "first_token", "last_token" or "mean".

    Under causal attention the first token only attends to itself, so the last token is used instead.
    """
    causal = kind_of(model) == "decoder"
    return "last_token" if causal and wanted in ("pooler", "first_token") else wanted


def text_vectors(
    which: str, states: torch.Tensor, pooled: torch.Tensor | None, attention_mask: torch.Tensor
) -> torch.Tensor:
    """Return the vector of each text, (batch, width).

    Args:
        which: from `text_vector_of`. "pooler" is the first token's vector in a model without a pooler.
        states: the last hidden states, (batch, tokens, width); (batch, 1, width) if only the first token is computed.
        pooled: the pooler's output, (batch, width), or None.
        attention_mask: (batch, tokens). Padding is on the right; for the last token and the mean it may be on the left.
    """
    match which:
        case "mean":
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            return (states * weights).sum(1) / weights.sum(1)
        case "last_token":
            return states[torch.arange(len(states), device=states.device), last_tokens(attention_mask)]
        case "pooler" if pooled is not None:
            return pooled
        case _:
            return states[:, 0]


def last_tokens(attention_mask: torch.Tensor) -> torch.Tensor:
    """Return the place of each text's last token, (batch,). attention_mask: (batch, tokens), padded on either side."""
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return (places * attention_mask).argmax(1)
