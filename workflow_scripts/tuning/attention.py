"""Self-attention with prompts, for every encoder that goes through the attention interface of transformers 5.

An attention module whose attribute `prompt` holds a layer's prompt attends to it besides the text: the prompt's
vectors stand before the keys and the values (paper, section 2: "the prompts are operated as past keys and values").
Without the attribute the result is the plain encoder's.
"""

import math
from typing import Any

import torch
from torch import nn

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.tuning.dropout import mark_dropped
from workflow_scripts.tuning.lean import without_compiler, without_extras

with without_compiler(), without_extras():
    from transformers.masking_utils import AttentionMaskInterface, bidirectional_mask_function, sdpa_mask
    from transformers.modeling_utils import AttentionInterface

NAME = "crossprompt"
ROOM = "prompt_length"  # the attribute of an encoder's configuration with the length of its layers' prompts
FIRST = "first_query_alone"  # the attribute of an attention module of which only the first token's result is read
ALIGNED = 8  # elements, at multiples of which the rows of a mask begin
WHOLE_ROW = 32  # numbers of bfloat16, at multiples of which PyTorch's softmax is not slowed down by the rest of a row
HIDDEN = -1e30  # added to the product with a hidden token; its weight is exactly 0

# What an architecture may hand to its attention besides the mask without changing the result.
HARMLESS = {
    "sliding_window",
    "is_causal",
    "position_ids",
    "cu_seq_lens_q",
    "cu_seq_lens_k",
    "max_length_q",
    "max_length_k",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "use_cache",
    "deterministic",
}

# cuDNN plans its attention for each new shape: 0.8 ms each way and layer on an H200, most of a step while lengths are
# new.
torch.backends.cuda.enable_cudnn_sdp(False)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The attention of one layer.

    Args:
        module: the encoder's attention module; its `prompt`, if set, is a pair of (batch or 1, key heads, length, head
            size).
        query: (batch, heads, tokens, head size).
        key, value: (batch, key heads, tokens, head size); a key head may serve several heads.
        attention_mask: of `additive_mask`; None where nothing is hidden.
        scaling: factor on the products; one over the root of the head size by default.
        dropout: probability with which an attention weight is dropped.

    Returns (batch, tokens, heads, head size), and None in the place of the weights; the first token's result in the
    place of every token's where that alone is read. Raises UserError where the architecture asks for something else
    that would change the result.
    """
    unknown = [name for name, option in options.items() if option is not None and name not in HARMLESS]
    if unknown:
        raise UserError(f"encoders with {type(module).__name__} ask their attention for {unknown[0]}: not supported")
    prompt = getattr(module, "prompt", None)
    if prompt is not None:
        prompt_key, prompt_value = (part.to(key.dtype).expand(key.shape[0], -1, -1, -1) for part in prompt)
        key, value = torch.cat((prompt_key, key), dim=2), torch.cat((prompt_value, value), dim=2)
    if attention_mask is not None:  # It has room for a prompt, which not every layer needs to have.
        attention_mask = attention_mask[..., -key.shape[2] :]
    tokens = query.shape[2]
    if getattr(module, FIRST, False):
        query = query[:, :, :1]
        attention_mask = None if attention_mask is None else attention_mask[:, :, :1]
    if key.shape[1] != query.shape[1]:
        key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for part in (key, value))
    scaling = 1 / math.sqrt(query.shape[-1]) if scaling is None else scaling
    if query.device.type == "cpu" and torch.is_grad_enabled():
        # PyTorch's fused CPU attention is slow backwards: it took 61 % of a training step, plain products half of that.
        type_ = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
        mask = None if attention_mask is None else attention_mask.to(type_)
        result = PlainAttention.apply(query.to(type_), key.to(type_), value.to(type_), mask, scaling, dropout)
    else:
        result = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if attention_mask is None else attention_mask.to(query.dtype),
            dropout_p=dropout,
            scale=scaling,
        )
    return result.transpose(1, 2).expand(-1, tokens, -1, -1), None


class PlainAttention(torch.autograd.Function):
    """softmax(scaling query key^T + mask) value with dropout, of which only the weights are kept for the way back.

    What autograd would keep is three matrices of a weight for each pair of tokens: the weights, their dropout mask and
    their product. A weight is never negative, so its sign can tell that it was dropped, and one matrix is enough.
    Factors and the mask are left to the products, which take them in passing.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        scaling: float,
        dropout: float,
    ) -> torch.Tensor:
        """query: (batch, heads, tokens, head size); key, value: with prompts; mask: of `additive_mask`. As query."""
        shape = query.shape
        if mask is not None:
            mask = mask.expand(-1, shape[1], -1, -1).flatten(0, 1)
        query, key, value = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
        products = _product(query, key.transpose(1, 2), scaling, mask)
        weights = _softmax(products)
        if dropout:
            mark_dropped(weights, dropout)
        ctx.save_for_backward(query, key, value, weights)
        ctx.shape, ctx.scaling, ctx.dropout = shape, scaling, dropout
        return _product(weights.relu() if dropout else weights, value, 1 / (1 - dropout)).view(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of query, key and value, each where it is needed."""
        query, key, value, weights = ctx.saved_tensors
        needs_query, needs_key, *_ = ctx.needs_input_grad
        gradient, factor = gradients[0].to(value.dtype).flatten(0, 1), 1 / (1 - ctx.dropout)

        def of_heads(result: torch.Tensor) -> torch.Tensor:
            return result.unflatten(0, ctx.shape[:2])

        of_value = of_heads(_product((weights.relu() if ctx.dropout else weights).transpose(1, 2), gradient, factor))
        if not (needs_query or needs_key):
            return None, None, of_value, None, None, None
        of_weights = _product(gradient, value.transpose(1, 2), factor)
        if ctx.dropout:
            torch.ops.aten.threshold_backward.grad_input(of_weights, weights, 0, grad_input=of_weights)
            weights = weights.abs()
        of_products = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_query = of_heads(_product(of_products, key, ctx.scaling)) if needs_query else None
        of_key = of_heads(_product(of_products.transpose(1, 2), query, ctx.scaling)) if needs_key else None
        return of_query, of_key, of_value, None, None, None


def _softmax(products: torch.Tensor) -> torch.Tensor:
    """Of the last dimension, in place."""
    if products.dtype == torch.bfloat16 and products.shape[-1] % WHOLE_ROW:
        return products.copy_(torch.softmax(products, -1, dtype=torch.float32))
    return torch.softmax(products, -1, out=products)


def _product(one: torch.Tensor, other: torch.Tensor, factor: float, added: torch.Tensor | None = None) -> torch.Tensor:
    """factor (one other) + added, matrix by matrix; added: (matrices, rows or 1, columns)."""
    if 1 in one.shape[1:] and one.dtype.itemsize < 4:
        # Of a vector this takes 14 to 32 us more than in oneDNN, which keeps half a MiB of each new product and shape.
        wide = None if added is None else added.float()
        return _product(one.float(), other.float(), factor, wide).to(one.dtype)
    if added is None:
        return torch.baddbmm(one.new_empty(()), one, other, beta=0, alpha=factor)
    return torch.baddbmm(added, one, other, alpha=factor)


def additive_mask(
    mask_function: Any = bidirectional_mask_function,
    config: Any = None,
    dtype: torch.dtype = torch.float32,
    allow_is_bidirectional_skip: bool = False,
    device: torch.device | str = "cpu",
    **arguments: Any,
) -> torch.Tensor | None:
    """What `attend` adds to the products: 0 where a query may look, a large negative number elsewhere.

    A plain padding mask is the same for every query and kept as one row; an encoder with local attention has its own
    mask function and gets a row for each query. Once for all layers, there is room for their prompts at the left, and
    rows begin where PyTorch's attention wants them: (batch, 1, tokens or 1, room + tokens).
    """
    # Whether nothing is hidden is asked on a CPU alone: a GPU would have to wait for the answer.
    skip = allow_is_bidirectional_skip and torch.device(device).type == "cpu"
    allowed = sdpa_mask(mask_function=mask_function, allow_is_bidirectional_skip=skip, device=device, **arguments)
    if allowed is None:
        return None
    if mask_function is bidirectional_mask_function:
        allowed = allowed[:, :, :1]
    room = getattr(config, ROOM, 0)
    tokens = room + allowed.shape[-1]
    mask = torch.zeros(*allowed.shape[:-1], -(-tokens // ALIGNED) * ALIGNED, dtype=dtype, device=allowed.device)
    mask[..., room:tokens].masked_fill_(~allowed, HIDDEN)
    return mask[..., :tokens]


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, additive_mask)
