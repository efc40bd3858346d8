"""Attention as plain matrix products, whose backward pass on a CPU is faster than that of PyTorch's fused attention."""

from typing import Any

import torch

from workflow_scripts.tuning.acceleration.dropout import mark_dropped

SOFTMAX_ALIGNMENT = 32  # bfloat16 elements; PyTorch's softmax is slower for rows that are no multiple of this


class PlainAttention(torch.autograd.Function):
    """softmax(scaling query key^T + mask) value, with dropout, saving one matrix per head for the backward pass.

    Autograd would save three matrices (tokens, tokens) per head: the attention weights, their dropout mask and their
    product. Weights are never negative, so here the sign of a weight marks it as dropped, and one matrix is enough.
    Scaling factors and the mask are fused into the matrix products.
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
        """The forward pass; see `backbone.attention.attend`. Returns (batch, heads, tokens, head size).

        Args:
            ctx: autograd's context.
            query: (batch, heads, tokens, head size).
            key, value: (batch, key heads, prompt + tokens, head size); equally many neighbouring heads share each
                key head.
            mask: (batch or 1, heads or 1, tokens or 1, prompt + tokens), or None; may need a gradient.
            scaling: factor on the scores.
            dropout: probability of dropping an attention weight.
        """
        shape = query.shape
        ctx.mask_shape = None if mask is None else mask.shape
        # The queries of all heads that share a key head become the rows of one matrix.
        matrices, sharing = shape[0] * key.shape[1], shape[1] // key.shape[1]
        if mask is not None:
            if sharing > 1 and mask.shape[1:3] == (1, 1):
                mask = mask.expand(shape[0], key.shape[1], 1, -1).flatten(0, 1)
            else:
                rows = shape[2] if sharing > 1 else -1
                mask = mask.expand(*shape[:2], rows, -1).reshape(matrices, -1, key.shape[2])
        query = query.reshape(matrices, -1, shape[3])
        key, value = key.flatten(0, 1), value.flatten(0, 1)
        products = _product(query, key.transpose(1, 2), scaling, mask)
        weights = _softmax(products)
        if dropout:
            mark_dropped(weights, dropout)
        ctx.save_for_backward(query, key, value, weights)
        ctx.key_heads = matrices // shape[0]
        ctx.shape, ctx.scaling, ctx.dropout = shape, scaling, dropout
        return _product(weights.relu() if dropout else weights, value, 1 / (1 - dropout)).view(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The backward pass: the gradients of query, key, value and mask, as far as they are needed."""
        query, key, value, weights = ctx.saved_tensors
        needs_query, needs_key, _, needs_mask, *_ = ctx.needs_input_grad
        gradient, factor = gradients[0].to(value.dtype).reshape(query.shape), 1 / (1 - ctx.dropout)

        def split_heads(result: torch.Tensor) -> torch.Tensor:
            return result.unflatten(0, (ctx.shape[0], ctx.key_heads))

        value_gradient = split_heads(
            _product((weights.relu() if ctx.dropout else weights).transpose(1, 2), gradient, factor)
        )
        if not (needs_query or needs_key or needs_mask):
            return None, None, value_gradient, None, None, None
        weight_gradient = _product(gradient, value.transpose(1, 2), factor)
        if ctx.dropout:
            torch.ops.aten.threshold_backward.grad_input(weight_gradient, weights, 0, grad_input=weight_gradient)
            weights = weights.abs()
        product_gradient = torch.ops.aten._softmax_backward_data(weight_gradient, weights, -1, weights.dtype)
        query_gradient = _product(product_gradient, key, ctx.scaling).view(ctx.shape) if needs_query else None
        key_gradient = (
            split_heads(_product(product_gradient.transpose(1, 2), query, ctx.scaling)) if needs_key else None
        )
        scores = (*ctx.shape[:3], product_gradient.shape[-1])
        mask_gradient = product_gradient.view(scores).sum_to_size(ctx.mask_shape) if needs_mask else None
        return query_gradient, key_gradient, value_gradient, mask_gradient, None, None


def _softmax(products: torch.Tensor) -> torch.Tensor:
    """Softmax over the last dimension, in place."""
    if products.dtype == torch.bfloat16 and products.shape[-1] % SOFTMAX_ALIGNMENT:
        return products.copy_(torch.softmax(products, -1, dtype=torch.float32))
    return torch.softmax(products, -1, out=products)


def _product(one: torch.Tensor, other: torch.Tensor, factor: float, added: torch.Tensor | None = None) -> torch.Tensor:
    """Return factor (one other) + added for batches of matrices; added: (matrices, rows or 1, columns)."""
    if 1 in one.shape[1:] and one.dtype.itemsize < 4:
        # For vectors float32 takes 14 to 32 us longer than oneDNN, which however caches 0.5 MiB for each new shape.
        wide = None if added is None else added.float()
        return _product(one.float(), other.float(), factor, wide).to(one.dtype)
    if added is None:
        return torch.baddbmm(one.new_empty(()), one, other, beta=0, alpha=factor)
    return torch.baddbmm(added, one, other, alpha=factor)
