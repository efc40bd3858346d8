"""What a checkpoint's configuration describes: the model class, its kind, and whether this project can tune it."""

import inspect
from pathlib import Path
from typing import Any, Literal

from workflow_scripts.core.errors import UserError

Kind = Literal["encoder", "decoder", "encoder-decoder"]
ATTENTION_LAYERS = ("full_attention", "sliding_attention", "chunked_attention")


# Model types of transformers that cannot work here, although they look like encoders of text, and why.
UNUSABLE = {
    "esm": "read amino acids instead of text",
    "funnel": "shorten the text from layer to layer",
    "reformer": "return vectors that are twice as wide as the embeddings",
}


def refuse_unusable_type(config: Any) -> None:
    """Raise UserError for a type in `UNUSABLE`. It needs the configuration alone."""
    if reason := UNUSABLE.get(config.model_type):
        raise UserError(
            f"models of the type {config.model_type!r} {reason} and cannot be tuned: choose another encoder"
        )


def architecture(config: Any, with_pooler: bool) -> tuple[Any, dict[str, bool]]:
    """Return the class of a configuration's encoder and the keyword arguments to construct it with.

    `with_pooler`: whether the checkpoint has weights for a pooler. Without them a pooler would be random.
    """
    from transformers import AutoModel

    found: Any = AutoModel._model_mapping[type(config)]
    takes = "add_pooling_layer" in inspect.signature(found).parameters
    return found, {"add_pooling_layer": with_pooler} if takes else {}


def kind_of(model: Any) -> Kind:
    """Return the kind of a model, from its configuration and its attention modules and not from its name.

    A decoder's tokens do not attend to later tokens. The weights do not show this, so the library's declarations count,
    in this order: two stacks (`is_encoder_decoder`), a model used as a decoder (`is_decoder`), causal masking turned
    off by the configuration (`is_causal: false`, or XLNet's `attn_type: bi`), and the attribute `is_causal` of the
    attention modules. Some modules lack the attribute (BLOOM's, XGLM's). Then a model is a decoder if the library
    predicts next words with its type, and never masked words.

    Args:
        model: the class of `architecture`; it may be on the meta device.
    """
    from transformers.models.auto import modeling_auto

    config = model.config
    if config.is_encoder_decoder:
        return "encoder-decoder"
    if getattr(config, "is_decoder", False):
        return "decoder"
    if not getattr(config, "is_causal", True) or getattr(config, "attn_type", None) == "bi":
        return "encoder"
    declared = [module.is_causal for module in model.modules() if hasattr(module, "is_causal")]
    if declared:
        return "decoder" if any(declared) else "encoder"
    predicts_masked = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    predicts_next = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return "decoder" if predicts_next and not predicts_masked else "encoder"


def language_model(config: Any, kind: Kind) -> Any:
    """Return the class of a model with its output layer, of masked words for an encoder; None if there is none."""
    from transformers.models.auto import modeling_auto

    mapping: Any = {
        "encoder": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING,
        "decoder": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING,
        "encoder-decoder": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    }[kind]
    return mapping.get(type(config), None)


def refuse_untunable(model: Any) -> None:
    """Raise UserError for a model that reads more than text, or that has layers without attention."""
    config, name = model.config, f"models of the type {model.config.model_type!r}"
    if not config.is_encoder_decoder and config.get_text_config() is not config:
        raise UserError(
            f"{name} read images or sound besides text: use a text-only model, or save the text model of this one"
            " (its language_model) as a checkpoint of its own"
        )
    stack = getattr(config, "encoder", config)  # T5Gemma's two stacks have sizes of their own
    if not hasattr(stack, "num_attention_heads"):
        raise UserError(f"{name} have no attention, which prompts are a part of: use a transformer")
    foreign = sorted(set(getattr(stack, "layer_types", None) or ()) - set(ATTENTION_LAYERS))
    if foreign:
        raise UserError(
            f"{name} with layers of the type {foreign[0]!r} cannot be tuned: every layer must be attention, of the"
            f" types {', '.join(ATTENTION_LAYERS)}"
        )


def converted(found: Any, folder: Path, config: Any, options: dict[str, bool], **changes: Any) -> tuple[Any, str]:
    """Load an older checkpoint, whose tensor names transformers converts; return the model and an error text.

    Transformers initialises tensors that it cannot load at random, differently in each process. The error text names
    the first of them; it is empty for a complete checkpoint.

    Args:
        found: the model class.
        folder: the checkpoint's folder.
        config: its configuration.
        options: from `architecture`.
        changes: further arguments of `from_pretrained`.
    """
    from transformers.utils import logging as library

    library.disable_progress_bar()  # a step's output is a log
    model, left = found.from_pretrained(
        folder, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **options, **changes
    )
    faults = dict.fromkeys(left["missing_keys"], "is missing")
    for name, shape, wanted in left["mismatched_keys"]:
        faults[name] = f"has the shape {list(shape)} instead of {list(wanted)}"
    name = min(faults, default="")
    return model, f"{name} {faults[name]}" if faults else ""
