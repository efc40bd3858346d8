"""LoRA: a trained product of two thin matrices beside frozen ones of the encoder (Hu et al., 2022), through PEFT.

Settings: `lora_rank` (columns of the thin matrices), `lora_alpha` (their product is scaled by alpha / rank),
`lora_dropout` (probability, on what goes into them), `lora_targets` (the last parts of the names of the linear layers;
null for those of the query and the value, the paper's choice).
"""

from typing import Any

import torch
import torch.distributed.tensor  # PEFT asks for a class of it, and leaves its import to others
from torch import nn

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.tuning.lean import without_compiler
from workflow_scripts.tuning.methods import linear_probe

with without_compiler():
    from peft import LoraConfig, inject_adapter_in_model

# The head reads the encoder as a probe's does.
head, sentence_vector = linear_probe.head, linear_probe.sentence_vector

# What architectures call the linear layers of query and value. ModernBERT has query, key and value in one layer.
QUERY_AND_VALUE = (
    ("query", "value"),
    ("query_proj", "value_proj"),
    ("q_lin", "v_lin"),
    ("q_proj", "v_proj"),
    ("q", "v"),
    ("Wqkv",),
)


def check(encoder: Any) -> None:
    """Every architecture with linear layers can be adapted; which they are is looked up in `prepare`."""


def prepare(model: Any, settings: dict[str, Any], touched: torch.Tensor | None) -> None:
    """Put the adapters into the encoder's layers; the second matrix of each begins at 0, so nothing changes yet."""
    config = LoraConfig(
        r=settings["lora_rank"],
        lora_alpha=settings["lora_alpha"],
        lora_dropout=settings["lora_dropout"],
        target_modules=targets(model.encoder, settings["lora_targets"]),
    )
    inject_adapter_in_model(config, model.encoder)


def targets(encoder: Any, wanted: list[str] | None) -> list[str]:
    """The last parts of the names of the layers that are adapted. Raises UserError where the encoder has none such."""
    present = {name.rpartition(".")[2] for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}
    for names in [wanted] if wanted else QUERY_AND_VALUE:
        if present.issuperset(names):
            return list(names)
    raise UserError(
        f"methods.lora.lora_targets: encoders of the type {encoder.config.model_type!r} have no linear layers"
        f" {', '.join(wanted) if wanted else 'that are known to be those of query and value'}; choose among"
        f" {', '.join(sorted(present))}"
    )
