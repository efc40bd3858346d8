"""LLaMA-Adapter: trains prompts behind a gate in the last layers; the encoder stays frozen (Zhang et al., 2023).

In each of these layers, the layer's own frozen projections compute keys and values from the prompt. A separate softmax
over the prompt, multiplied by the tanh of a gate, is added to the attention to the text. The gates start at 0, so the
initial model equals the plain one. As in the authors' code, the prompt takes no positions: the text has all of them.

Settings: `prompt_length` and `prompt_depth` (how many of the last layers have prompts; null for all).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from workflow_scripts.core.errors import UserError
from workflow_scripts.tuning.acceleration.bfloat16 import ALL_BFLOAT16
from workflow_scripts.tuning.acceleration.dropout import drop
from workflow_scripts.tuning.backbone.layers import attention_modules, key_shape
from workflow_scripts.tuning.batches import Batch
from workflow_scripts.tuning.methods import linear_probe
from workflow_scripts.tuning.prompts import AttentionInsert
from workflow_scripts.tuning.settings import TrainingSettings

head, sentence_vector = linear_probe.head, linear_probe.sentence_vector

# Names of the projections to keys and values in an attention module.
PROJECTIONS = (("key", "value"), ("k_proj", "v_proj"), ("key_proj", "value_proj"), ("k_lin", "v_lin"), ("k", "v"))


class GatedPrompts(AttentionInsert):
    """Prompts that a layer projects to keys and values, and a gate for each head of each layer.

    `vectors` is a parameter (layers, length, width), drawn from N(0, 1) as in the authors' code; `gates` is one
    (layers, heads). The paper describes one gate for each layer and trains one for each head.

    Args:
        encoder: the encoder.
        length: prompt vectors per layer.
        depth: how many of the last layers have prompts; None for all.
        method: the method's name, for errors.

    Raises UserError if `depth` exceeds the number of layers.
    """

    def __init__(self, encoder: Any, length: int, depth: int | None, method: str) -> None:
        super().__init__(encoder, depth, method)
        heads = encoder.config.num_attention_heads
        self.vectors = nn.Parameter(torch.randn(len(self.layers), length, encoder.config.hidden_size))
        self.gates = nn.Parameter(torch.zeros(len(self.layers), heads))
        self.shape = key_shape(encoder)

    def projected(self, layer: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return keys and values, (1, key heads, length, head size), and factors, (1, heads, 1, 1), of a layer.

        dtype: the encoder's. A packed matrix must be unpacked to read its own.
        """
        module = self.layers[layer]
        vectors = self.vectors[layer].to(dtype)
        names = projections(module)
        assert names is not None  # from `check`
        key, value = (getattr(module, name) for name in names)
        # (length, key heads * head size) -> (1, key heads, length, head size)
        keys, values = (one(vectors).view(1, len(vectors), *self.shape).transpose(1, 2) for one in (key, value))
        if (norm := getattr(module, "k_norm", None)) is not None:
            keys = norm(keys)
        return keys, values, torch.tanh(self.gates[layer]).view(1, -1, 1, 1)

    @staticmethod
    def insert(prompts: Sequence[Any], inputs: Batch, encoder: Any) -> Batch:
        """Set each layer's prompts for the next forward pass; arguments as for `Prompts.insert`.

        The inputs are not changed.
        """
        texts = len(inputs["input_ids"]) // len(prompts)
        dtype = torch.bfloat16 if getattr(encoder, ALL_BFLOAT16, False) else prompts[0].vectors.dtype
        for number, module in enumerate(prompts[0].layers):
            parts = zip(*(one.projected(number, dtype) for one in prompts), strict=True)
            repeated = (torch.cat([part.expand(texts, -1, -1, -1) for part in of_models]) for of_models in parts)
            module.beside = (gated_attention, *repeated)
        return inputs


def gated_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    gate: torch.Tensor,
    scaling: float,
    dropout: float,
    softcap: float | None,
) -> torch.Tensor:
    """Return the attention to a prompt alone, multiplied by a gate, (batch, heads, tokens, head size).

    Args:
        query, scaling, dropout, softcap: as for `backbone.attention.attend`.
        key, value: of the prompt, (batch, key heads, length, head size).
        gate: (batch, heads, 1, 1).
    """
    key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for part in (key, value))
    scores = query @ key.to(query.dtype).transpose(2, 3) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = drop(torch.softmax(scores, -1, dtype=torch.float32), dropout)
    return gate * (weights.to(value.dtype) @ value)


def projections(module: nn.Module) -> tuple[str, str] | None:
    """Return the names of an attention module's projections to keys and values; None without such names."""
    for names in PROJECTIONS:
        if all(isinstance(getattr(module, name, None), nn.Linear) for name in names):
            return names
    return None


def check(encoder: Any, settings: TrainingSettings) -> None:
    """Raise UserError if a layer does not use the attention interface, or projects keys and values together."""
    if not all(map(projections, attention_modules(encoder, settings.method))):
        raise UserError(
            f"encoders of the type {encoder.config.model_type!r} have no separate projections to keys and values: use"
            " another encoder or leave llama_adapter out"
        )


def prepare(model: Any, settings: TrainingSettings, touched: torch.Tensor | None) -> None:
    """Add the prompts and gates."""
    model.prompts = GatedPrompts(model.encoder, settings.prompt_length, settings.prompt_depth, settings.method)
