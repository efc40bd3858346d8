"""Which modules of an encoder PEFT's methods tune by default."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def default_targets(encoder: Any, mapping: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return the modules that a mapping of PEFT names for this encoder, with the model type that they are named for.

    If the mapping lacks the encoder's type, it is the first type whose modules this encoder has, too: XLM-R has those
    of RoBERTa. None if there is no such type.
    """
    names = [name for name, _ in encoder.named_modules()]

    def has(target: str) -> bool:
        return any(name == target or name.endswith(f".{target}") for name in names)

    own = encoder.config.model_type
    for model_type in [own, *mapping] if own in mapping else mapping:
        targets = mapping[model_type]
        if isinstance(targets, str):
            if any(re.fullmatch(targets, name) for name in names):
                return model_type, targets
        elif targets and all(map(has, targets)):
            return model_type, set(targets)
    return None


def matrices(encoder: Any) -> set[str]:
    """Return the last parts of the names of all modules with a weight matrix, except embeddings."""
    found = set()
    for name, module in encoder.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.dim() == 2 and not isinstance(module, nn.Embedding):
            found.add(name.rpartition(".")[2])
    return found


def normalisations(encoder: Any) -> set[str]:
    """Return the last parts of the names of all normalisations."""
    return {name.rpartition(".")[2] for name, module in encoder.named_modules() if "Norm" in type(module).__name__}
