"""Self-attention with prompts, for every encoder that goes through the attention interface of transformers 5.

An attention module whose attribute `prompt` holds a layer's prompt attends to it besides the text: the prompt's
vectors stand before the keys and the values (paper, section 2: "the prompts are operated as past keys and values").
Without the attribute the result is the plain encoder's.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers.masking_utils import AttentionMaskInterface, bidirectional_mask_function, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from workflow_scripts.tuning.dropout import drop

NAME = "crossprompt"
HIDDEN = -1e30  # added to the product with a hidden token; its weight is exactly 0


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The attention of one layer.

    Args:
        module: the encoder's attention module; its `prompt`, if set, is a pair of (heads, length, head size).
        query, key, value: (batch, heads, tokens, head size).
        attention_mask: added to the products: (batch, 1, tokens or 1, tokens); None where nothing is hidden.
        scaling: factor on the products; one over the root of the head size by default.
        dropout: probability with which an attention weight is dropped.

    Returns (batch, tokens, heads, head size), and None in the place of the weights.
    """
    prompt = getattr(module, "prompt", None)
    if prompt is not None:
        prompt_key, prompt_value = (part.to(key.dtype).expand(key.shape[0], -1, -1, -1) for part in prompt)
        key, value = torch.cat((prompt_key, key), dim=2), torch.cat((prompt_value, value), dim=2)
        if attention_mask is not None:
            attention_mask = nn.functional.pad(attention_mask, (prompt_key.shape[2], 0))
    scaling = 1 / math.sqrt(query.shape[-1]) if scaling is None else scaling
    if query.device.type == "cpu" and torch.is_grad_enabled():
        # PyTorch's fused CPU attention is slow backwards: it took 61 % of a training step, plain products half of that.
        weights = torch.matmul(query * scaling, key.transpose(2, 3))
        if attention_mask is not None:
            weights += attention_mask.to(weights.dtype)
        result = torch.matmul(drop(weights.softmax(-1), dropout), value)
    else:
        result = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if attention_mask is None else attention_mask.to(query.dtype),
            dropout_p=dropout,
            scale=scaling,
        )
    return result.transpose(1, 2), None


def additive_mask(mask_function: Any = bidirectional_mask_function, **arguments: Any) -> torch.Tensor | None:
    """What `attend` adds to the products: 0 where a query may look, a large negative number elsewhere.

    A plain padding mask is the same for every query and kept as one row; an encoder with local attention has its own
    mask function and gets a row for each query.
    """
    allowed = sdpa_mask(mask_function=mask_function, **arguments)
    if allowed is None:
        return None
    if mask_function is bidirectional_mask_function:
        allowed = allowed[:, :, :1]
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill_(~allowed, HIDDEN)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, additive_mask)
