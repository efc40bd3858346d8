"""Prefix-Tuning+: trains a matrix for each attention head; the encoder stays frozen (Wang et al., 2025, equation 7).

A prefix inside attention shares one softmax with the text: the longer the text, the less weight the prefix has.
Prefix-Tuning+, later named PrefixMemory-Tuning, moves it out. The output of a head for the query q of a token is

    attention(q, K, V) + elu(q) M

where attention reads only the text. The trained matrix M, (head size, head size), replaces the sum of the prefix's
key-value products. q is the query of the attention scores, with rotary positions if the architecture has them.

Our choices: M starts at 0, so the initial model equals the plain one; every head of every layer has its own M, even if
heads share keys and values; dropout applies to elu(q), as to attention weights.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from workflow_scripts.tuning.acceleration.dropout import drop
from workflow_scripts.tuning.backbone.layers import attention_modules, key_shape
from workflow_scripts.tuning.batches import Batch
from workflow_scripts.tuning.methods import linear_probe
from workflow_scripts.tuning.prompts import AttentionInsert
from workflow_scripts.tuning.settings import TrainingSettings

head, sentence_vector = linear_probe.head, linear_probe.sentence_vector


class PrefixMatrices(AttentionInsert):
    """The matrices of an encoder; `matrices` is a parameter (layers, heads, head size, head size).

    Args:
        encoder: the encoder.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__(encoder)
        _, size = key_shape(encoder)
        self.matrices = nn.Parameter(torch.zeros(len(self.layers), encoder.config.num_attention_heads, size, size))

    @staticmethod
    def insert(prompts: Sequence[Any], inputs: Batch, encoder: Any) -> Batch:
        """Set each layer's matrices for the next forward pass; arguments as for `Prompts.insert`.

        The inputs are not changed.
        """
        for number, module in enumerate(prompts[0].layers):
            module.beside = (read_matrices, torch.stack([one.matrices[number] for one in prompts]))
        return inputs


def read_matrices(query: torch.Tensor, matrices: torch.Tensor, dropout: float, **_: Any) -> torch.Tensor:
    """Return elu(query) M, (batch, heads, tokens, head size).

    Args:
        query: (batch, heads, tokens, head size); the batch holds equally many texts for each model.
        matrices: (models, heads, head size, head size).
        dropout: probability of dropping an element of elu(query).
    """
    features = drop(nn.functional.elu(query), dropout).unflatten(0, (len(matrices), -1))
    return torch.einsum("mbhtd,mhde->mbhte", features, matrices.to(features.dtype)).flatten(0, 1)


def check(encoder: Any, settings: TrainingSettings) -> None:
    """Raise UserError if a layer does not use the attention interface of transformers."""
    attention_modules(encoder, settings.method)


def prepare(model: Any, settings: TrainingSettings, touched: torch.Tensor | None) -> None:
    """Add the matrices."""
    model.prompts = PrefixMatrices(model.encoder)
