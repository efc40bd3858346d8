"""Keeping only the first layers of a checkpoint: its configuration and its weights, before it is stored."""

import re
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import write_json
from workflow_scripts.encoders.architecture import architecture, kind_of
from workflow_scripts.encoders.weights import INDEX, read_object, tensor_files


def keep_first_layers(folder: Path, layers: int, name: str) -> None:
    """Cut the checkpoint in `folder`, which has been checked, to its first layers.

    Embeddings, the final normalisation, a pooler and an output layer are kept, although they were trained after the
    last layer. `name` is the encoder's name in the configuration. Raises UserError if the model has fewer layers, or if
    its layers cannot be distinguished from its other modules.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    full = _built(config)
    if kind_of(full) == "encoder-decoder":
        raise UserError(
            f"encoders.{name}.layers: models of the type {config.model_type!r} have two stacks: delete the key"
        )
    total = config.num_hidden_layers
    if layers > total:
        raise UserError(f"encoders.{name}.layers: found {layers}, but the model has {total}: lower it")
    if layers == total:
        return
    written = read_object(folder / "config.json")
    key = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")  # `n_layer` in GPT-2
    changes: dict[str, Any] = {key: layers} | ({"num_hidden_layers": layers} if "num_hidden_layers" in written else {})
    # Settings of each layer, such as `layer_types`.
    per_layer = {key: value for key, value in written.items() if "layer" in key and isinstance(value, list)}
    changes |= {key: value[:layers] for key, value in per_layer.items() if len(value) == total}
    write_json(folder / "config.json", written | changes)
    cut = _built(AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False))
    dropped = _names_of_layers(full, total, layers)
    kept = {name for name in full.state_dict() if not dropped.search(f".{name}")}
    if kept != set(cut.state_dict()) or len(kept) == len(full.state_dict()):
        raise UserError(
            f"encoders.{name}.layers: models of the type {config.model_type!r} have no list of layers to cut: delete"
            " the key"
        )
    _drop_tensors(folder, dropped, name)


def _built(config: Any) -> Any:
    """Return the model on the meta device, which allocates no memory."""
    import torch

    found, options = architecture(config, with_pooler=True)
    with torch.device("meta"):
        return found(config, **options)


def _names_of_layers(model: Any, total: int, kept: int) -> re.Pattern[str]:
    """Return what matches the names, after a dot, of all tensors in layers from number `kept` on.

    The layers are in lists of modules that have one module for each layer; those inside other such lists are not
    counted.
    """
    from torch.nn import ModuleList

    lists: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, ModuleList) and len(module) == total and not inside:
            lists.append(name)
    numbers = "|".join(str(number) for number in range(kept, total))
    return re.compile(rf"\.(?:{'|'.join(map(re.escape, lists)) or '(?!)'})\.(?:{numbers})\.")


def _drop_tensors(folder: Path, dropped: re.Pattern[str], name: str) -> None:
    """Write the weight files again without the tensors whose names match. Raises UserError if none does."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    found = 0
    weight_map: dict[str, str] = {}
    size = 0
    for file in tensor_files(folder):
        with safe_open(file, framework="pt") as opened:
            names = list(opened.keys())
            kept = {tensor: opened.get_tensor(tensor) for tensor in names if not dropped.search(f".{tensor}")}
        found += len(names) - len(kept)
        mode = file.stat().st_mode
        # A new file: the old one may be a hard link into the hub's cache.
        file.unlink()
        if not kept:
            continue
        save_file(kept, file, metadata={"format": "pt"})
        file.chmod(mode)
        weight_map |= dict.fromkeys(kept, file.name)
        size += sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
    if not found:
        raise UserError(
            f"encoders.{name}.layers: the names of the checkpoint's tensors are not those of its layers: delete the key"
        )
    if (folder / INDEX).exists():
        (folder / INDEX).unlink()
        write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": weight_map})
