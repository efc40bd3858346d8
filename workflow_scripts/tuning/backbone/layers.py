"""The parts of a model that methods tune or attach something to."""

import inspect
from typing import Any

from torch import nn

from workflow_scripts.core.errors import UserError


def layers(model: Any) -> list[Any]:
    """Return the layers, or nothing for an architecture without a list of layers."""
    depth = model.config.num_hidden_layers
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == depth]
    return list(lists[0]) if lists else []


def takes(model: Any, name: str) -> bool:
    """Whether a model's forward pass takes an input of this name."""
    return name in inspect.signature(model.forward).parameters


def is_frozen(module: Any) -> bool:
    """Whether a module has no trainable parameter."""
    return not any(parameter.requires_grad for parameter in module.parameters())


def attention_modules(model: Any, method: str = "prompt_tuning") -> list[Any]:
    """Return the self-attention modules in the order of the layers.

    Raises UserError, which names the method, for an architecture whose layers do not all use the attention interface of
    transformers 5.
    """
    named = attention_like(model)
    numbered = {module.layer_idx: module for module in named if getattr(module, "layer_idx", None) is not None}
    # mBART's encoder does not number its layers.
    found = [numbered[index] for index in sorted(numbered)] if numbered else named
    # A module of the right name may still have its own attention code, which would ignore the prompts.
    complete = len(found) == model.config.num_hidden_layers and sorted(numbered) == list(range(len(numbered)))
    if not (complete and all(map(uses_interface, found))):
        raise UserError(
            f"encoders of the type {model.config.model_type!r} cannot take prompts: not all layers use the"
            f" attention interface of transformers; use another encoder or leave {method} out"
        )
    return found


def attention_like(model: Any) -> list[Any]:
    """Return the modules whose name says that they are attention."""
    return [module for module in model.modules() if "Attention" in type(module).__name__]


def uses_interface(module: nn.Module) -> bool:
    """Whether an attention module calls the registered attention function; others would ignore the prompts."""
    called = inspect.unwrap(type(module).forward).__code__.co_names
    return "ALL_ATTENTION_FUNCTIONS" in called or "attend" in called  # the library's modules, and ours of DeBERTa


def key_shape(model: Any) -> tuple[int, int]:
    """Return how many key heads each layer has, and their size. Several heads may share a key head."""
    config = model.config
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or config.hidden_size // heads
    return getattr(config, "num_key_value_heads", None) or heads, head_size
