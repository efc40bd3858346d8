"""LoRA: trains a low-rank update of some of the encoder's frozen weight matrices (Hu et al., 2022), using PEFT.

Settings: `lora_rank` (rank of the update), `lora_alpha` (the update is scaled by alpha / rank), `lora_dropout`
(probability, on the update's input), `lora_targets` (the linear layers to adapt, by the last part of their names; null
for query and value, the choice of Hu et al.).
"""

from typing import Any

import torch
import torch.distributed.tensor  # PEFT uses a class of this module without importing it
from torch import nn

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.settings import given
from workflow_scripts.tuning.acceleration.lean import without_compiler
from workflow_scripts.tuning.methods import linear_probe
from workflow_scripts.tuning.settings import TrainingSettings

with without_compiler():
    from peft import LoraConfig, inject_adapter_in_model

# Head and sentence vector are those of a linear probe.
head, sentence_vector = linear_probe.head, linear_probe.sentence_vector

# Names of the linear layers for query and value, by architecture. ModernBERT has query, key and value in one layer.
QUERY_AND_VALUE = (
    ("query", "value"),
    ("query_proj", "value_proj"),
    ("q_lin", "v_lin"),
    ("q_proj", "v_proj"),
    ("q", "v"),
    ("Wqkv",),
)


def check(encoder: Any) -> None:
    """Accept every architecture; `prepare` looks up its linear layers."""


def prepare(model: Any, settings: TrainingSettings, touched: torch.Tensor | None) -> None:
    """Insert the adapters. Their second matrix is initialised with 0, so that the encoder's output does not change yet.

    Raises UserError if the encoder lacks the layers.
    """
    config = LoraConfig(
        r=given(settings.lora_rank, "lora_rank"),
        lora_alpha=given(settings.lora_alpha, "lora_alpha"),  # type: ignore[arg-type]  # PEFT divides it: any number
        lora_dropout=given(settings.lora_dropout, "lora_dropout"),
        target_modules=targets(model.encoder, settings.lora_targets),
    )
    inject_adapter_in_model(config, model.encoder)


def targets(encoder: Any, wanted: list[str] | None) -> list[str]:
    """Return the names (last parts) of the layers to adapt. Raises UserError if the encoder has no such layers."""
    present = {name.rpartition(".")[2] for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}
    for names in [wanted] if wanted else QUERY_AND_VALUE:
        if present.issuperset(names):
            return list(names)
    raise UserError(
        f"methods.lora.lora_targets: encoders of the type {encoder.config.model_type!r} have no linear layers"
        f" {', '.join(wanted) if wanted else 'with a known name for query and value'}; choose from"
        f" {', '.join(sorted(present))}"
    )
