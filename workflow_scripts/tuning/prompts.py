"""Deep prompts: trained key and value vectors for the self-attention of every layer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.tuning.dropout import drop


class Prompts(nn.Module):
    """Prompts of one length in every layer of an encoder.

    Initialised N(0, std), dropped out with the encoder's probability, for each text by itself, no reparameterisation
    network (the paper's code). They are trained in float32: (layers, 2, key heads, length, head size), keys before
    values.

    Args:
        encoder: its self-attention modules are found by their `layer_idx`.
        length: vectors a layer.
        std: deviation of the initial values.
        dropout: probability with which an element of a prompt is dropped in training.
    """

    def __init__(self, encoder: Any, length: int, std: float, dropout: float) -> None:
        super().__init__()
        layers = attention_modules(encoder)
        config = encoder.config
        heads = config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
        key_heads = getattr(config, "num_key_value_heads", None) or heads
        self.vectors = nn.Parameter(torch.randn(len(layers), 2, key_heads, length, head_size) * std)
        self.dropout = dropout
        # A plain list: the modules belong to the encoder.
        self.layers: list[Any] = layers

    def of_texts(self, texts: int) -> torch.Tensor:
        """(layers, 2, texts, key heads, length, head size), freshly dropped out in training."""
        vectors: torch.Tensor = self.vectors
        if torch.is_autocast_enabled(vectors.device.type):
            vectors = vectors.to(torch.get_autocast_dtype(vectors.device.type))
        vectors = vectors.unsqueeze(2).expand(-1, -1, texts, -1, -1, -1)
        return drop(vectors, self.dropout) if self.training else vectors


def place(prompts: Sequence[Prompts], texts: int) -> None:
    """Give each layer of an encoder its prompts for the next forward pass.

    The batch holds `texts` texts for each of the prompts, those of the first before those of the second.
    """
    vectors = [one.of_texts(texts) for one in prompts]
    together = torch.cat(vectors, dim=2) if len(vectors) > 1 else vectors[0]
    for module, (keys, values) in zip(prompts[0].layers, together, strict=True):
        module.prompt = (keys, values)


def attention_modules(encoder: Any) -> list[nn.Module]:
    """The self-attention modules, the first layer first.

    Raises UserError for an architecture whose layers do not go through the attention interface of transformers 5.
    """
    found = {
        module.layer_idx: module
        for module in encoder.modules()
        if "Attention" in type(module).__name__ and getattr(module, "layer_idx", None) is not None
    }
    layers = encoder.config.num_hidden_layers
    if sorted(found) != list(range(layers)):
        raise UserError(
            f"encoders of the type {encoder.config.model_type!r} cannot take prompts: {len(found)} of {layers} layers"
            " go through the attention interface of transformers; use another encoder or leave prompt_tuning out"
        )
    return [found[index] for index in sorted(found)]
