"""Gradient checkpointing: the backward pass recomputes each layer instead of keeping its activations.

Memory for activations is then that of one layer rather than of all layers, for about a third more time.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.tuning.acceleration.dropout import dropout_state, restore_dropout

RECOMPUTES = "recomputes_layers"  # attribute set on an encoder whose backward pass recomputes the layers


def checkpoint_gradients(encoder: Any) -> None:
    """Turn gradient checkpointing on. Raises UserError for an architecture that does not support it.

    The layers must still have their prompts in the backward pass: see `model.forward_together`.
    """
    if not encoder.supports_gradient_checkpointing:
        raise UserError(
            f"training.gradient_checkpointing: models of the type {encoder.config.model_type!r} do not support it:"
            " set it to false"
        )
    setattr(encoder, RECOMPUTES, True)
    # Before transformers 5.23 the method had the other name, which now causes a warning.
    modern = hasattr(encoder, "activation_checkpointing_enable")
    enable = encoder.activation_checkpointing_enable if modern else encoder.gradient_checkpointing_enable
    enable({"use_reentrant": False, "context_fn": _same_masks})


def _same_masks() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """The contexts of a layer's forward pass and of its repetition, which draws the same dropout masks.

    PyTorch restores its own random numbers, but not those of `acceleration.dropout`.
    """
    before = dropout_state()

    @contextlib.contextmanager
    def repeated() -> Iterator[None]:
        now = dropout_state()
        restore_dropout(before)
        try:
            yield
        finally:
            restore_dropout(now)

    return contextlib.nullcontext(), repeated()
