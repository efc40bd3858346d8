"""Deep prompts: trained key and value vectors in the self-attention of every layer, or of the last few."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from workflow_scripts.core.errors import UserError
from workflow_scripts.tuning.acceleration.dropout import drop
from workflow_scripts.tuning.backbone.attention import PROMPT_LENGTH
from workflow_scripts.tuning.backbone.layers import attention_modules, key_shape, takes
from workflow_scripts.tuning.backbone.positions import position_ids
from workflow_scripts.tuning.batches import Batch


class AttentionInsert(nn.Module):
    """Additional inputs of an encoder's self-attention modules in a forward pass.

    A subclass adds its parameters, and a static method `insert` as that of `Prompts`, which sets the attribute
    `attribute` of each module.

    Args:
        encoder: the encoder; its self-attention modules are found by their `layer_idx`.
        depth: how many of the last layers take part; None for all.
        method: the method's name, for errors.

    Raises UserError if `depth` exceeds the number of layers.
    """

    attribute = "beside"  # what `backbone.attention.attend` reads: "prompt" or "beside"

    def __init__(self, encoder: Any, depth: int | None = None, method: str = "prompt_tuning") -> None:
        super().__init__()
        layers = attention_modules(encoder, method)
        if depth is not None and depth > len(layers):
            raise UserError(
                f"methods.{method}.prompt_depth is {depth}, but the encoder has {len(layers)} layers: lower it"
            )
        # A plain list, not a ModuleList: the modules belong to the encoder.
        self.layers: list[Any] = layers[-(depth or 0) :]

    def remove(self) -> None:
        """Undo `insert` after the forward pass; autograd keeps what the backward pass needs."""
        for module in self.layers:
            setattr(module, self.attribute, None)


class Prompts(AttentionInsert):
    """Prompts of one length in the layers of an encoder.

    As in the paper's code, they are initialised from N(0, std^2), pass through dropout separately for each text, and
    have no reparameterisation network (for one, see `reparameterise`). `vectors` is a float32 parameter (layers, 2, key
    heads, length, head size), keys before values.

    With a smaller depth, only the last layers have prompts: P-tuning v2 (Liu et al., 2022) found the last layers better
    than the same number of first ones. A text's positions start after the prompt at every depth, so that two depths
    differ in nothing else.

    Args:
        encoder: the encoder.
        length: prompt vectors per layer.
        std: standard deviation of the initial values.
        dropout: probability of dropping an element of a prompt in training.
        depth: how many of the last layers have prompts; None for all.

    Raises UserError if `depth` exceeds the number of layers.
    """

    attribute = "prompt"

    def __init__(self, encoder: Any, length: int, std: float, dropout: float, depth: int | None = None) -> None:
        super().__init__(encoder, depth)
        key_heads, head_size = key_shape(encoder)
        self.vectors = nn.Parameter(torch.randn(len(self.layers), 2, key_heads, length, head_size) * std)
        self.dropout = dropout
        setattr(encoder.config, PROMPT_LENGTH, length)

    def expanded(self, texts: int) -> torch.Tensor:
        """Return the prompts repeated for each text, with new dropout masks in training.

        The shape is (layers, 2, texts, key heads, length, head size).
        """
        vectors: torch.Tensor = self.vectors
        if torch.is_autocast_enabled(vectors.device.type):
            vectors = vectors.to(torch.get_autocast_dtype(vectors.device.type))
        vectors = vectors.unsqueeze(2).expand(-1, -1, texts, -1, -1, -1)
        return drop(vectors, self.dropout) if self.training else vectors

    @staticmethod
    def insert(prompts: "Sequence[Prompts]", inputs: Batch, encoder: Any) -> Batch:
        """Set each layer's prompts for the next forward pass; return the inputs with the texts' position ids added.

        Args:
            prompts: one per model. The batch holds equally many texts for each, in the order of the models.
            inputs: the encoder's inputs, `input_ids` and `attention_mask` (batch, tokens) among them.
            encoder: the encoder that the prompts belong to.
        """
        vectors = [one.expanded(len(inputs["input_ids"]) // len(prompts)) for one in prompts]
        together = torch.cat(vectors, dim=2) if len(vectors) > 1 else vectors[0]
        for module, (keys, values) in zip(prompts[0].layers, together, strict=True):
            module.prompt = (keys, values)
        # T5 has only relative positions, between the tokens of the text. mBART always counts from the first token.
        if not takes(encoder, "position_ids"):
            return inputs
        return inputs | {"position_ids": position_ids(encoder, inputs["attention_mask"], together.shape[4])}


class Reparameterisation(nn.Module):
    """A network with one hidden layer that computes the prompts of all layers from one embedding per prompt position.

    As in prefix tuning (Li and Liang, 2021, section 4.3) and P-tuning v2, with PyTorch's default initialisation.

    Args:
        shape: the shape of the prompts, (layers, 2, key heads, length, head size).
        width: the width of the embedding.
        hidden: the width of the hidden layer.
    """

    def __init__(self, shape: torch.Size, width: int, hidden: int) -> None:
        super().__init__()
        self.shape, self.width = shape, width
        outputs = shape.numel() // shape[3]
        self.network = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, outputs))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Map (length, width) to (layers, 2, key heads, length, head size).

        Computed in float32 even under autocast, so that the stored prompts are exactly those that were validated.
        """
        layers, parts, heads, length, size = self.shape
        with torch.autocast(embedding.device.type, enabled=False):
            vectors: torch.Tensor = self.network(embedding)
        return vectors.view(length, layers, parts, heads, size).permute(1, 2, 3, 0, 4)

    def right_inverse(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the initial embedding, drawn from N(0, 1): the network has no inverse for the given vectors."""
        return torch.randn(self.shape[3], self.width)


def reparameterise(prompts: Prompts, width: int, hidden: int) -> None:
    """Train an embedding and a network instead of the prompts, which become the network's output.

    A run stores only the resulting prompts (`TunedModel.tuned_tensors`): prediction does not need the network.
    """
    network = Reparameterisation(prompts.vectors.shape, width, hidden)
    parametrize.register_parametrization(prompts, "vectors", network, unsafe=True)
