"""Applies what makes a model fast."""

from typing import Any

import torch

from workflow_scripts.tuning.acceleration.activation import replace_activations
from workflow_scripts.tuning.acceleration.bfloat16 import set_output_precision, set_precision
from workflow_scripts.tuning.acceleration.compiler import check_compiler, compile_layers
from workflow_scripts.tuning.acceleration.dropout import replace_dropout
from workflow_scripts.tuning.acceleration.embedding import keep_rows
from workflow_scripts.tuning.acceleration.first_token import compute_first_token_only
from workflow_scripts.tuning.acceleration.last_token import compute_last_token_only
from workflow_scripts.tuning.acceleration.normalisation import replace_normalisations
from workflow_scripts.tuning.acceleration.packed import pack_frozen
from workflow_scripts.tuning.acceleration.recomputing import checkpoint_gradients
from workflow_scripts.tuning.device import find_device
from workflow_scripts.tuning.settings import TrainingSettings


def accelerate(model: Any, settings: TrainingSettings, ids: torch.Tensor | None) -> None:
    """Make a built model fast.

    Args:
        model: a `TunedModel` whose method has already frozen and unfrozen parameters.
        settings: the merged settings of the run.
        ids: the vocabulary ids in all texts that the model will read, (ids,); None keeps every embedding row.
    """
    encoder = model.encoder
    # A user's method may read the embedding table itself, and a decoder reads the tokens that it has generated.
    reads_others = settings.module or (model.writer and not model.output_layer.has_decoder)
    if ids is not None and not reads_others:
        keep_rows(encoder, ids)
    replace_dropout(model)
    if settings.gradient_checkpointing:
        checkpoint_gradients(encoder)
    if model.needs_only_first_token():
        compute_first_token_only(encoder)
    if model.needs_only_last_token() and not settings.module:  # A user's method may read any state.
        compute_last_token_only(encoder)
    set_precision(encoder, settings.precision, settings.quantise)
    if model.output_layer is not None:
        set_output_precision(model.output_layer, encoder, settings.precision)
    if settings.compile:
        check_compiler(find_device())
        compile_layers(encoder)
    else:
        replace_normalisations(encoder)
        replace_activations(encoder)
        pack_frozen(encoder)
