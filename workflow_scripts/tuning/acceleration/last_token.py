"""Computes the last layer for the last token only, if that token's vector represents the text.

In a decoder the head then reads no other token's last state. The last layer still needs the keys and values of all
tokens, but its queries, its attention's output matrix and its feed-forward network only for the last token. These are
94 % of the layer's matrix products in Gemma 3 270M.
"""

import inspect
from typing import Any

import torch
from torch import nn

from workflow_scripts.tuning.backbone.layers import attention_like, layers, uses_interface
from workflow_scripts.tuning.backbone.readout import last_tokens

ATTENTION_PARTS = ("q_proj", "o_proj", "c_proj")  # of Llama's family, and of GPT-2


class LastToken:
    """The positions of the last tokens of a batch, and the hooks that reduce a module's input to them.

    The modules work on each token separately. A reduced module's output is 0 for the other tokens.
    """

    def __init__(self) -> None:
        self.mask: torch.Tensor | None = None  # of the current batch, (batch, tokens)
        self.places: tuple[torch.Tensor, torch.Tensor] | None = None  # rows and columns of the last tokens

    def locate(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """A forward pre-hook of the encoder: find the last tokens."""
        self.mask, self.places = named.get("attention_mask"), None
        if torch.is_tensor(self.mask) and self.mask.dim() == 2 and self.mask.shape[1] > 1:
            self.places = torch.arange(len(self.mask), device=self.mask.device), last_tokens(self.mask)

    def reduce(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """A forward pre-hook: states (batch, tokens, width) to the last tokens', (batch, 1, width)."""
        if self.places is None or self.mask is None or inputs[0].shape[:-1] != self.mask.shape:
            return None
        return inputs[0][self.places].unsqueeze(1), *inputs[1:]

    def restore(self, module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
        """A forward hook: the last tokens' outputs (batch, 1, width) to (batch, tokens, width)."""
        if self.places is None or self.mask is None or inputs[0].shape[:-1] != (len(self.mask), 1):
            return None
        whole = output.new_zeros(*self.mask.shape, output.shape[-1])
        return whole.index_put(self.places, output[:, 0])


def compute_last_token_only(encoder: Any) -> None:
    """Compute the last layer of a decoder for the last token of each text, as far as its architecture allows it.

    The layer must have one attention that uses the interface of transformers, with separate matrices for queries and
    outputs, or a feed-forward network `mlp` that takes and returns states only. Other parts are computed for all
    tokens. The last hidden states of the other tokens become meaningless.
    """
    last = next(reversed(layers(encoder)), None)
    attentions = [] if last is None else [module for module in attention_like(last) if uses_interface(module)]
    if len(attentions) != 1:
        return
    wanted = [getattr(attentions[0], name, None) for name in ATTENTION_PARTS]
    mlp = getattr(last, "mlp", None)
    if isinstance(mlp, nn.Module) and len(inspect.signature(mlp.forward).parameters) == 1 and _returns_states(mlp):
        wanted.append(mlp)
    found = LastToken()
    encoder.register_forward_pre_hook(found.locate, with_kwargs=True)
    for module in wanted:
        if isinstance(module, nn.Module):
            module.register_forward_pre_hook(found.reduce)
            module.register_forward_hook(found.restore)


def _returns_states(mlp: nn.Module) -> bool:
    """Whether a feed-forward network applies the same matrices to all tokens, without experts."""
    return not any(isinstance(module, nn.ModuleList) or "Experts" in type(module).__name__ for module in mlp.modules())
