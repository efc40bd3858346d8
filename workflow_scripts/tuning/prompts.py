"""Deep prompts: trained key and value vectors for the self-attention of every layer, or of the last ones."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.tuning.attention import ROOM
from workflow_scripts.tuning.batches import Batch
from workflow_scripts.tuning.dropout import drop
from workflow_scripts.tuning.encoder import position_ids


class Prompts(nn.Module):
    """Prompts of one length in the layers of an encoder.

    Initialised N(0, std), dropped out with the encoder's probability, for each text by itself, no reparameterisation
    network (the paper's code; see `reparameterise`). They are trained in float32: (layers, 2, key heads, length, head
    size), keys before values.

    Of a smaller depth, the last layers have prompts: P-tuning v2 (Liu et al., 2022) found the last ones better than as
    many of the first. A text's positions start after the prompt whatever the depth, so that two depths differ in
    nothing else.

    Args:
        encoder: its self-attention modules are found by their `layer_idx`.
        length: vectors a layer.
        std: deviation of the initial values.
        dropout: probability with which an element of a prompt is dropped in training.
        depth: how many of the last layers have prompts; None for all.

    Raises UserError for a depth that the encoder does not have.
    """

    def __init__(self, encoder: Any, length: int, std: float, dropout: float, depth: int | None = None) -> None:
        super().__init__()
        layers = attention_modules(encoder)
        if depth is not None and depth > len(layers):
            raise UserError(f"methods.prompt_tuning.prompt_depth: {depth} of {len(layers)} layers; lower it")
        layers = layers[-(depth or 0) :]
        config = encoder.config
        heads = config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
        key_heads = getattr(config, "num_key_value_heads", None) or heads
        self.vectors = nn.Parameter(torch.randn(len(layers), 2, key_heads, length, head_size) * std)
        self.dropout = dropout
        # A plain list: the modules belong to the encoder.
        self.layers: list[Any] = layers
        setattr(config, ROOM, length)

    def of_texts(self, texts: int) -> torch.Tensor:
        """(layers, 2, texts, key heads, length, head size), freshly dropped out in training."""
        vectors: torch.Tensor = self.vectors
        if torch.is_autocast_enabled(vectors.device.type):
            vectors = vectors.to(torch.get_autocast_dtype(vectors.device.type))
        vectors = vectors.unsqueeze(2).expand(-1, -1, texts, -1, -1, -1)
        return drop(vectors, self.dropout) if self.training else vectors

    @staticmethod
    def place(prompts: "Sequence[Prompts]", inputs: Batch, encoder: Any) -> Batch:
        """Give each layer of the encoder its prompts for the next forward pass; the inputs with the texts' positions.

        The batch holds as many texts for each of the prompts, those of the first before those of the second.
        """
        vectors = [one.of_texts(len(inputs["input_ids"]) // len(prompts)) for one in prompts]
        together = torch.cat(vectors, dim=2) if len(vectors) > 1 else vectors[0]
        for module, (keys, values) in zip(prompts[0].layers, together, strict=True):
            module.prompt = (keys, values)
        after = position_ids(encoder, inputs["attention_mask"], together.shape[4])
        return inputs | {"position_ids": after}

    def take_away(self) -> None:
        """Take the prompts from the layers after the pass: the way back needs them beside keys and values alone."""
        for module in self.layers:
            module.prompt = None


class Reparameterisation(nn.Module):
    """Prompts of every layer out of one trained embedding of each prompt position, by a network with one hidden layer.

    As in prefix tuning (Li and Liang, 2021, section 4.3) and P-tuning v2; initial values are PyTorch's, as there.

    Args:
        shape: of the prompts: (layers, 2, key heads, length, head size).
        width: of the embedding.
        hidden: width of the hidden layer.
    """

    def __init__(self, shape: torch.Size, width: int, hidden: int) -> None:
        super().__init__()
        self.shape, self.width = shape, width
        outputs = shape.numel() // shape[3]
        self.network = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, outputs))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """(length, width) -> (layers, 2, key heads, length, head size).

        In float32 also under autocast, so that the prompts that are stored are those that were validated.
        """
        layers, parts, heads, length, size = self.shape
        with torch.autocast(embedding.device.type, enabled=False):
            vectors: torch.Tensor = self.network(embedding)
        return vectors.view(length, layers, parts, heads, size).permute(1, 2, 3, 0, 4)

    def right_inverse(self, vectors: torch.Tensor) -> torch.Tensor:
        """The embedding that training begins with, N(0, 1): the vectors themselves have no inverse."""
        return torch.randn(self.shape[3], self.width)


def reparameterise(prompts: Prompts, width: int, hidden: int) -> None:
    """Train an embedding and a network in the place of the prompts, which become what the network makes of it.

    A run stores the prompts alone (`TunedModel.tuned_tensors`): prediction needs no network.
    """
    network = Reparameterisation(prompts.vectors.shape, width, hidden)
    parametrize.register_parametrization(prompts, "vectors", network, unsafe=True)


def attention_modules(encoder: Any) -> list[nn.Module]:
    """The self-attention modules, the first layer first.

    Raises UserError for an architecture whose layers do not go through the attention interface of transformers 5.
    """
    found = {
        module.layer_idx: module
        for module in encoder.modules()
        if "Attention" in type(module).__name__ and getattr(module, "layer_idx", None) is not None
    }
    # Modules of the right name and index may still compute attention by themselves, and would never read a prompt.
    whole = sorted(found) == list(range(encoder.config.num_hidden_layers))
    if not (whole and encoder.is_backend_compatible()):
        raise UserError(
            f"encoders of the type {encoder.config.model_type!r} cannot take prompts: not all layers go through"
            " the attention interface of transformers; use another encoder or leave prompt_tuning out"
        )
    return [found[index] for index in sorted(found)]
