"""Self-attention with prompts, for every encoder that uses the attention interface of transformers 5.

If an attention module has the attribute `prompt`, its vectors are prepended to the keys and values (paper, section 2:
"the prompts are operated as past keys and values"). If it has the attribute `beside`, its function of the queries is
added to the result (LLaMA-Adapter, Prefix-Tuning+). Without them, the result is that of the plain encoder.
"""

import math
from typing import Any

import torch
from torch import nn

from workflow_scripts.core.errors import UserError
from workflow_scripts.tuning.acceleration.dropout import drop
from workflow_scripts.tuning.acceleration.lean import without_compiler, without_extras
from workflow_scripts.tuning.acceleration.plain_attention import PlainAttention

with without_compiler(), without_extras():
    from transformers.masking_utils import AttentionMaskInterface, bidirectional_mask_function, sdpa_mask
    from transformers.modeling_utils import AttentionInterface

NAME = "crossprompt"
PROMPT_LENGTH = "prompt_length"  # attribute of an encoder's configuration: the length of its layers' prompts
FIRST_QUERY_ONLY = "first_query_only"  # attribute of an attention module: compute the first token's output only
MASK_ALIGNMENT = 8  # elements; each row of a mask starts at a multiple of this
MASKED = -1e30  # added to the scores of masked tokens; their attention weight becomes exactly 0

# Options that an architecture may pass to its attention and that do not change the result.
IGNORED_OPTIONS = {
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

# cuDNN's attention plans each new shape: 0.8 ms per layer in the forward pass and again in the backward pass on an
# H200, most of a step as long as shapes are new.
torch.backends.cuda.enable_cudnn_sdp(False)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    position_bias: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Compute the attention of one layer; transformers calls this function.

    Args:
        module: the encoder's attention module; its `prompt`, if set, is a pair of tensors (batch or 1, key heads,
            length, head size). Its `beside`, if set, is a function and tensors: `function(query, *tensors, scaling=...,
            dropout=..., softcap=...)` returns what is added to the output, in the query's shape.
        query: (batch, heads, tokens, head size).
        key, value: (batch, key heads, tokens, head size); several heads may share a key head.
        attention_mask: from `additive_mask`; None if no token is masked.
        scaling: factor on the scores; 1 / sqrt(head size) by default.
        dropout: probability of dropping an attention weight.
        softcap: limits the scores to this absolute value, by a tanh (Gemma 2).
        position_bias: added to the scores of the text, (1 or batch, heads, tokens, tokens) (T5, DeBERTa); a prompt
            has no position, so its scores get none.
        options: further options of the architecture.

    Returns the output (batch, tokens, heads, head size), and None instead of the weights. With `FIRST_QUERY_ONLY` the
    output repeats the first token's result for every token. Raises UserError if the architecture passes an option that
    would change the result.
    """
    unknown = [name for name, option in options.items() if option is not None and name not in IGNORED_OPTIONS]
    if unknown:
        raise UserError(
            f"encoders with {type(module).__name__} pass the option {unknown[0]} to their attention, which is not"
            " supported: use another encoder"
        )
    prompt = getattr(module, "prompt", None)
    if prompt is not None:
        prompt_key, prompt_value = (part.to(key.dtype).expand(key.shape[0], -1, -1, -1) for part in prompt)
        key, value = torch.cat((prompt_key, key), dim=2), torch.cat((prompt_value, value), dim=2)
    if attention_mask is not None:  # It has columns for a prompt even if this layer has none.
        attention_mask = attention_mask[..., -key.shape[2] :]
    tokens = query.shape[2]
    if getattr(module, FIRST_QUERY_ONLY, False):
        query = query[:, :, :1]
        attention_mask = None if attention_mask is None else attention_mask[:, :, :1]
    fused = query.device.type != "cpu" or not torch.is_grad_enabled()
    if key.shape[1] != query.shape[1] and (fused or softcap is not None):
        key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for part in (key, value))
    scaling = 1 / math.sqrt(query.shape[-1]) if scaling is None else scaling
    bias = None if attention_mask is None else attention_mask.to(query.dtype)
    if position_bias is not None:
        beside_prompt = nn.functional.pad(position_bias, (key.shape[2] - position_bias.shape[-1], 0)).to(query.dtype)
        bias = beside_prompt if bias is None else beside_prompt + bias
    if softcap is not None:
        result = _capped(query, key, value, bias, scaling, dropout, softcap)
    elif not fused:
        # The backward pass of PyTorch's fused CPU attention took 61 % of a training step, plain products half of that.
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
        mask = None if bias is None else bias.to(dtype)
        result = PlainAttention.apply(query.to(dtype), key.to(dtype), value.to(dtype), mask, scaling, dropout)
    else:
        result = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=dropout, scale=scaling
        )
    beside = getattr(module, "beside", None)
    if beside is not None:
        function, *tensors = beside
        result = result + function(query, *tensors, scaling=scaling, dropout=dropout, softcap=softcap).to(result.dtype)
    return result.transpose(1, 2).expand(-1, tokens, -1, -1), None


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    scaling: float,
    dropout: float,
    softcap: float,
) -> torch.Tensor:
    """Attention whose scores are limited before the mask is added, which fused attention cannot do."""
    scores = softcap * torch.tanh(query @ key.transpose(2, 3) * (scaling / softcap))
    weights = torch.softmax(scores if bias is None else scores + bias, -1, dtype=torch.float32)
    return drop(weights, dropout).to(value.dtype) @ value


def additive_mask(
    mask_function: Any = bidirectional_mask_function,
    config: Any = None,
    dtype: torch.dtype = torch.float32,
    allow_is_bidirectional_skip: bool = False,
    device: torch.device | str = "cpu",
    **arguments: Any,
) -> torch.Tensor | None:
    """Return the mask that `attend` adds to the scores: 0 for visible tokens, `MASKED` for the others.

    A prompt is visible to every token, even beyond a sliding window.

    The shape is (batch, 1, tokens or 1, prompt + tokens), with columns for the prompts on the left. A plain padding
    mask is the same for every query and has one row; encoders with local attention have their own mask function and get
    a row per query. One mask serves all layers. Its rows are aligned as PyTorch's attention requires. None if nothing
    is masked, which is checked on a CPU only: on a GPU the check would block until the GPU has caught up.
    """
    skip = allow_is_bidirectional_skip and torch.device(device).type == "cpu"
    # Never skipped for causal attention: with a prompt, a mask is no longer the lower triangle that fused attention
    # would assume.
    allowed = sdpa_mask(
        mask_function=mask_function,
        **arguments | {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": skip, "device": device},
    )
    if allowed is None:
        return None
    if mask_function is bidirectional_mask_function:
        allowed = allowed[:, :, :1]
    prompt = getattr(config, PROMPT_LENGTH, 0)
    tokens = prompt + allowed.shape[-1]
    mask = torch.zeros(
        *allowed.shape[:-1], -(-tokens // MASK_ALIGNMENT) * MASK_ALIGNMENT, dtype=dtype, device=allowed.device
    )
    mask[..., prompt:tokens].masked_fill_(~allowed, MASKED)
    return mask[..., :tokens]


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, additive_mask)
