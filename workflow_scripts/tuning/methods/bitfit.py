"""BitFit: trains only the encoder's biases, including those of the normalisations (Ben Zaken et al., 2022)."""

from typing import Any

import torch

from workflow_scripts.core.errors import UserError
from workflow_scripts.tuning.methods import linear_probe
from workflow_scripts.tuning.settings import TrainingSettings

# Head and sentence vector are those of a linear probe.
head, sentence_vector = linear_probe.head, linear_probe.sentence_vector


def check(encoder: Any, settings: TrainingSettings) -> None:
    """Raise UserError for an architecture without biases, such as ModernBERT: BitFit would only be a linear probe."""
    if not any(_is_bias(name) for name, _ in encoder.named_parameters()):
        raise UserError(
            f"encoders of the type {encoder.config.model_type!r} have no biases to tune: use another encoder or leave"
            " bitfit out"
        )


def prepare(model: Any, settings: TrainingSettings, touched: torch.Tensor | None) -> None:
    """Unfreeze all biases, except that of a pooler whose output is not used."""
    pooled = model.level == "sequence" and model.sentence_vector == "pooler"
    for name, parameter in model.encoder.named_parameters():
        if _is_bias(name) and (pooled or not name.startswith("pooler.")):
            parameter.requires_grad_(True)


def _is_bias(name: str) -> bool:
    return name.rpartition(".")[2] == "bias"
