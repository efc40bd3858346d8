"""The model that a checkpoint's configuration describes: which class it is, and whether it can be tuned here."""

import inspect
from pathlib import Path
from typing import Any

from workflow_scripts.experiment.errors import UserError


def architecture(config: Any, with_pooler: bool) -> tuple[Any, dict[str, bool]]:
    """The class of a configuration's encoder, and what it is called with: a pooler would be random where none is."""
    from transformers import AutoModel

    found: Any = AutoModel._model_mapping[type(config)]
    takes = "add_pooling_layer" in inspect.signature(found).parameters
    return found, {"add_pooling_layer": with_pooler} if takes else {}


def refuse_causal(model: Any) -> None:
    """Raises UserError for a decoder: where no token is padding, transformers lets the attention hide the later ones.

    Ours hides none, so that a text's vectors would hang on the padding beside it. A configuration with `is_causal:
    false` makes the library hide none either, whatever its modules say.
    """
    causal = any(getattr(module, "is_causal", False) for module in model.modules())
    if causal and getattr(model.config, "is_causal", True):
        raise UserError(
            f"models of the type {model.config.model_type!r} with causal attention are decoders, whose tokens see none"
            " that follow: use a bidirectional encoder"
        )


def converted(found: Any, folder: Path, config: Any, options: dict[str, bool], **changes: Any) -> tuple[Any, str]:
    """The model of an older checkpoint, whose names transformers converts, and what it could not load.

    The library initialises what it cannot convert at random, differently in each process. The text names the first such
    tensor; it is empty for a whole checkpoint.
    """
    model, left = found.from_pretrained(
        folder, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **options, **changes
    )
    faults = dict.fromkeys(left["missing_keys"], "is missing")
    for name, its_shape, wanted in left["mismatched_keys"]:
        faults[name] = f"has the shape {list(its_shape)} in place of {list(wanted)}"
    name = min(faults, default="")
    return model, f"{name} {faults[name]}" if faults else ""
