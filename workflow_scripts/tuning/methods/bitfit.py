"""BitFit: of the encoder the biases alone are trained, those of normalisations among them (Ben Zaken et al., 2022)."""

from typing import Any

import torch

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.tuning.methods import linear_probe

# The head reads the encoder as a probe's does.
head, sentence_vector = linear_probe.head, linear_probe.sentence_vector


def check(encoder: Any) -> None:
    """Raises UserError for an architecture without biases, such as ModernBERT: that would be a linear probe."""
    if not any(_is_bias(name) for name, _ in encoder.named_parameters()):
        raise UserError(
            f"encoders of the type {encoder.config.model_type!r} have no biases to tune: use another encoder or leave"
            " bitfit out"
        )


def prepare(model: Any, settings: dict[str, Any], touched: torch.Tensor | None) -> None:
    """Free every bias but that of a pooler which nothing reads."""
    pooled = model.level == "sequence" and model.sentence_vector == "pooler"
    for name, parameter in model.encoder.named_parameters():
        if _is_bias(name) and (pooled or not name.startswith("pooler.")):
            parameter.requires_grad_(True)


def _is_bias(name: str) -> bool:
    return name.rpartition(".")[2] == "bias"
