"""LoRA: trains a low-rank update of some of the encoder's frozen weight matrices (Hu et al., 2022), using PEFT.

Settings: `lora_rank` (rank of the update), `lora_alpha` (the update is scaled by alpha / rank), `lora_dropout`
(probability, on the update's input), `lora_targets` (the linear layers to adapt, by the last part of their names; null
for query and value, the choice of Hu et al.).
"""

from typing import Any

import torch
import torch.distributed.tensor  # PEFT uses a class of this module without importing it

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.settings import given
from workflow_scripts.tuning.acceleration.lean import without_compiler
from workflow_scripts.tuning.methods import linear_probe
from workflow_scripts.tuning.peft_targets import default_targets, matrices
from workflow_scripts.tuning.settings import TrainingSettings

with without_compiler():
    from peft import LoraConfig, inject_adapter_in_model
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as MAPPING

# Head and sentence vector are those of a linear probe.
head, sentence_vector = linear_probe.head, linear_probe.sentence_vector

# Query and value of architectures that PEFT's list lacks and whose modules have names of their own.
FURTHER = {"distilbert": ["q_lin", "v_lin"]}


def check(encoder: Any, settings: TrainingSettings) -> None:
    """Raise UserError if the encoder lacks the layers."""
    targets(encoder, settings.lora_targets)


def prepare(model: Any, settings: TrainingSettings, touched: torch.Tensor | None) -> None:
    """Insert the adapters. Their second matrix starts at 0, so that the encoder's output does not change yet."""
    config = LoraConfig(
        r=given(settings.lora_rank, "lora_rank"),
        lora_alpha=given(settings.lora_alpha, "lora_alpha"),  # type: ignore[arg-type]  # PEFT divides it: any number
        lora_dropout=given(settings.lora_dropout, "lora_dropout"),
        target_modules=targets(model.encoder, settings.lora_targets),
    )
    inject_adapter_in_model(config, model.encoder)


def targets(encoder: Any, wanted: list[str] | None) -> Any:
    """Return the names (last parts) of the layers to adapt. Raises UserError if the encoder has no such layers."""
    present = matrices(encoder)
    if wanted and present.issuperset(wanted):
        return list(wanted)
    found = None if wanted else default_targets(encoder, FURTHER | MAPPING)
    if found is not None:
        return found[1]
    raise UserError(
        f"methods.lora.lora_targets: encoders of the type {encoder.config.model_type!r} have no linear layers"
        f" {', '.join(wanted) if wanted else 'with a known name for query and value'}; choose from"
        f" {', '.join(sorted(present))}"
    )
