"""The block `methods.NAME.peft`: which types of PEFT can be used, checked by PEFT's own configuration classes.

PEFT is imported by the functions that need it: that takes seconds, and most grids have no such block.
"""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.problems import nearest

# Types that cannot be used, with the reason and, where there is one, the alternative.
_PROMPTS = "changes the inputs of PEFT's own model classes; use the method prompt_tuning or input_prompt_tuning"
REFUSED = {
    "PROMPT_TUNING": "changes the inputs of PEFT's own model classes; use the method input_prompt_tuning",
    "P_TUNING": _PROMPTS,
    "PREFIX_TUNING": "changes the inputs of PEFT's own model classes; use the method prompt_tuning",
    "MULTITASK_PROMPT_TUNING": "needs a prompt that was trained on several tasks",
    "CPT": "builds its prompt from a text of each task, for generation only",
    "CARTRIDGE": "trains a cache of a text, for generation only",
    "ADAPTION_PROMPT": "replaces attention modules of Llama only; use the method llama_adapter",
    "XLORA": "mixes LoRA adapters that were trained before",
    "POLY": "needs the number of a task with each text",
    "SHADOW": "needs a second network and runs in PEFT's own model classes only",
    "TRAINABLE_TOKENS": "trains embedding rows of chosen tokens, which the workflow renumbers",
}

# Common names for an option of another type.
ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "DORA": ("LORA", {"use_dora": True}),
    "RSLORA": ("LORA", {"use_rslora": True}),
}

# Keys that the workflow sets, or that concern PEFT's files and model classes.
OWN_KEYS = {
    "peft_type",
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "modules_to_save",
    "runtime_config",
    "total_step",
    "trainable_token_indices",
    "megatron_config",
    "megatron_core",
    "layer_replication",
}

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it if installed; see acceleration/lean.py

# AdaLoRA needs the number of steps in its configuration, which is known only when training starts.
UNKNOWN_STEPS = 2**40

# Initialisations that need texts before training, or another program.
CALIBRATED = {
    "eva": "EVA",
    "corda": "CorDA",
    "lora_ga": "LoRA-GA",
    "loftq": "LoftQ",
}


def types() -> list[str]:
    """Return the values of `peft_type` that can be used, in PEFT's order."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    return [*ALIASES, *(one.value for one in PEFT_TYPE_TO_TUNER_MAPPING if one.value not in REFUSED)]


def configuration_of(block: Mapping[str, Any], where: str) -> Any:
    """Return PEFT's configuration object.

    Args:
        block: `peft_type` and keys of that type.
        where: the block's place in the configuration, such as `methods.dora.peft`.

    Raises UserError, in one line, for a type that is unknown or cannot be used, and for keys and values that PEFT's
    configuration class refuses.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    usable = types()
    name = block.get("peft_type")
    if name in REFUSED:
        raise UserError(f"{where}.peft_type: {name} {REFUSED[name]}. Types that can be used: {', '.join(usable)}")
    if name not in usable:
        raise UserError(f"{where}.peft_type: {name!r} is unknown{nearest(str(name), usable)}")
    found, implied = ALIASES.get(name, (name, {}))
    kind = next(kind for peft_type, kind in PEFT_TYPE_TO_CONFIG_MAPPING.items() if peft_type.value == found)
    keys = {field.name for field in dataclasses.fields(kind) if field.init} - OWN_KEYS
    given = {key: value for key, value in block.items() if key != "peft_type"}
    for key in given:
        if key not in keys:
            raise UserError(f"{where}.{key}: {name} has no such key here{nearest(key, sorted(keys))}")
    _refuse_calibrated(given, where)
    steps = {"total_step": UNKNOWN_STEPS} if any(one.name == "total_step" for one in dataclasses.fields(kind)) else {}
    try:
        made: Any = kind(**implied | given | steps)
    except (ValueError, TypeError, AttributeError, KeyError, ImportError) as error:
        raise UserError(f"{where}: PEFT refuses this configuration of {name}: {one_line(error)}") from error
    if steps and made.target_r >= made.init_r:
        raise UserError(f"{where}.target_r: found {made.target_r}; it must be smaller than init_r, {made.init_r}")
    return made


def one_line(error: Exception) -> str:
    """Return an error's message as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _refuse_calibrated(given: Mapping[str, Any], where: str) -> None:
    for key, value in given.items():
        if key.startswith("init_") and isinstance(value, str) and value.lower() in CALIBRATED:
            raise UserError(
                f"{where}.{key}: {CALIBRATED[value.lower()]} needs a pass over texts before training, which the"
                " workflow does not make; choose true, gaussian, orthogonal, pissa or olora"
            )
