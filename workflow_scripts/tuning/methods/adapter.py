"""Bottleneck adapters: trains small networks after or beside the sublayers; the encoder's own weights stay frozen.

Settings: `adapter_width` (hidden units of each network) and `adapter_placement`:

* `houlsby`: after attention and after the feed-forward network (Houlsby et al., 2019)
* `pfeiffer`: after the feed-forward network only (Pfeiffer et al., 2020)
* `parallel`: beside the feed-forward network, scaled by 4 (He et al., 2022)

"After" is between the sublayer's last matrix and the residual connection. Second matrices and biases start at 0, so
that the encoder's output does not change yet.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.settings import given
from workflow_scripts.tuning.methods import linear_probe
from workflow_scripts.tuning.settings import TrainingSettings

head, sentence_vector = linear_probe.head, linear_probe.sentence_vector

PARALLEL_SCALE = 4.0  # He et al.

# Names of the last matrix of attention, in a layer, by architecture.
ATTENTION_OUTPUTS = (
    "attention.output.dense",  # BERT, RoBERTa, XLM-R, ELECTRA, DeBERTa
    "attention.out_lin",  # DistilBERT
    "attention.attn.o",  # MPNet
    "attn.Wo",  # ModernBERT
    "self_attn.o_proj",  # Llama, Qwen, Gemma, Mistral, EuroBERT
    "self_attn.out_proj",  # mBART, XGLM
    "attn.c_proj",  # GPT-2
    "self_attention.dense",  # BLOOM
    "layer.0.SelfAttention.o",  # T5
)
# Names of the first and the last matrix of the feed-forward network.
FEED_FORWARDS = (
    ("intermediate.dense", "output.dense"),
    ("ffn.lin1", "ffn.lin2"),
    ("mlp.Wi", "mlp.Wo"),
    ("mlp.gate_proj", "mlp.down_proj"),
    ("fc1", "fc2"),
    ("mlp.c_fc", "mlp.c_proj"),
    ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    ("layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wo"),
)


class Bottleneck(nn.Module):
    """A network with one hidden layer: `scale` times up(activation(down(states))).

    Args:
        width: of the states.
        hidden: the number of hidden units.
        activation: the non-linearity.
        scale: factor on the output.
    """

    def __init__(self, width: int, hidden: int, activation: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.down, self.activation, self.up = nn.Linear(width, hidden), activation, nn.Linear(hidden, width)
        self.scale = scale
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map (..., width) to (..., width)."""
        result: torch.Tensor = self.up(self.activation(self.down(states.to(self.down.weight.dtype))))
        return (self.scale * result).to(states.dtype)

    def after(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """A forward hook: add the network's output to the module's output."""
        return output + self(output)

    def beside(self, first: nn.Module, last: nn.Module) -> None:
        """Add the network's output for the first module's input to the last module's output."""
        read: list[torch.Tensor] = []

        def note(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            read[:] = [inputs[0]]  # replaces what an interrupted forward pass has left

        first.register_forward_pre_hook(note)
        last.register_forward_hook(lambda module, inputs, output: output + self(read.pop()))


def check(encoder: Any, settings: TrainingSettings) -> None:
    """Raise UserError for an architecture whose sublayers are not known."""
    list(sublayers(encoder))


def prepare(model: Any, settings: TrainingSettings, touched: torch.Tensor | None) -> None:
    """Add the adapters, as `bottlenecks` of the encoder, in the order of the layers."""
    encoder, hidden = model.encoder, given(settings.adapter_width, "adapter_width")
    width, placement = encoder.config.hidden_size, given(settings.adapter_placement, "adapter_placement")
    networks: list[Bottleneck] = []
    for attention, first, last in list(sublayers(encoder)):
        if placement == "parallel":
            network = Bottleneck(width, hidden, nn.ReLU(), PARALLEL_SCALE)
            network.beside(first, last)
            networks.append(network)
            continue
        for module in (attention, last) if placement == "houlsby" else (last,):
            network = Bottleneck(width, hidden, nn.GELU() if placement == "houlsby" else nn.ReLU())
            module.register_forward_hook(network.after)
            networks.append(network)
    encoder.bottlenecks = nn.ModuleList(networks)


def sublayers(encoder: Any) -> Iterator[tuple[nn.Module, nn.Module, nn.Module]]:
    """Yield for each layer the last matrix of attention and the first and last of the feed-forward network.

    Raises UserError if a layer has other names, or if all layers are one module, as in ALBERT.
    """
    depth = encoder.config.num_hidden_layers
    layers: Any = next((one for one in encoder.modules() if isinstance(one, nn.ModuleList) and len(one) == depth), ())
    for layer in layers:
        named = dict(layer.named_modules())
        attention = next((named[name] for name in ATTENTION_OUTPUTS if name in named), None)
        pair = next(((named[one], named[other]) for one, other in FEED_FORWARDS if {one, other} <= named.keys()), None)
        if attention is None or pair is None:
            break
        yield attention, *pair
    else:
        if layers:
            return
    raise UserError(
        f"encoders of the type {encoder.config.model_type!r} have no sublayers that the method adapter knows: use"
        " another encoder or leave adapter out"
    )
