"""Loading a pretrained encoder from its folder: memory-mapped, without its pretraining head, and always offline."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.core.errors import UserError
from workflow_scripts.encoders.architecture import architecture, converted, refuse_causal
from workflow_scripts.encoders.weights import tensor_files

logger = logging.getLogger(__name__)


def load_encoder(
    folder: Path, attention: str, dropout: float | None = None, check: Callable[[Any], None] | None = None
) -> Any:
    """Load an encoder in float32 with memory-mapped weights: a page is read when it is first used.

    Args:
        folder: a Hugging Face checkpoint folder with safetensors files.
        attention: the name of a registered attention implementation.
        dropout: replaces every dropout probability in the checkpoint's configuration, as in the paper's code.
        check: called with the model before any weight is read; may raise.

    Raises UserError if a file is missing or damaged, if the model is a decoder, or if its weights do not fit the
    configuration.
    """
    from transformers import AutoConfig
    from transformers.initialization import no_init_weights

    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise UserError(f"{folder} lacks config.json or *.safetensors: delete the folder and run the workflow again")
    config = AutoConfig.from_pretrained(folder)
    if dropout is not None:
        for name in vars(config):
            if name.endswith(("dropout", "dropout_prob")) and isinstance(getattr(config, name), (int, float)):
                setattr(config, name, dropout)
    config._attn_implementation = attention
    found, options = architecture(config, with_pooler=any("pooler." in name for name in _weight_names(folder)))
    with no_init_weights():
        model = found(config, **options)
    refuse_causal(model)
    if check is not None:
        check(model)
    prefix = f"{model.base_model_prefix}."  # the encoder's prefix in a checkpoint with a pretraining head
    weights = _read_weights(folder, prefix)
    if all(name in weights and weights[name].shape == wanted.shape for name, wanted in model.state_dict().items()):
        words = model.get_input_embeddings().weight
        (table,) = [name for name, parameter in model.named_parameters() if parameter is words]
        # Mapped separately, so that its pages can be freed when `keep_rows` replaces the table.
        weights[table] = _read_weights(folder, prefix)[table]
        unexpected = model.load_state_dict(weights, strict=False, assign=True).unexpected_keys
        if unexpected:
            logger.info("%s: skipped tensors that the encoder does not use: %s", folder, ", ".join(sorted(unexpected)))
        return model.float()
    # An older checkpoint with other tensor names. Transformers converts it, which takes a copy in memory.
    logger.info("%s: tensor names or shapes differ from the architecture's; transformers converts them", folder)
    model, fault = converted(found, folder, config, options)
    if fault:
        raise UserError(
            f"{folder}: the weights do not match config.json: {fault}; write the checkpoint again with AutoModel's"
            " save_pretrained, delete this folder and run the workflow again"
        )
    return model.float()


def _weight_names(folder: Path) -> list[str]:
    """Return the names of a checkpoint's tensors."""
    from safetensors import safe_open

    def names(file: Path) -> list[str]:
        with safe_open(file, framework="pt") as tensors:
            return list(tensors.keys())

    return [name for found in _of_each_file(folder, names) for name in found]


def _read_weights(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors, memory-mapped, by name without the prefix."""
    from safetensors.torch import load_file

    return {
        name.removeprefix(prefix): tensor
        for found in _of_each_file(folder, load_file)
        for name, tensor in found.items()
    }


def _of_each_file(folder: Path, read: Callable[[Path], Any]) -> Iterator[Any]:
    from safetensors import SafetensorError

    for file in tensor_files(folder):
        try:
            yield read(file)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} is damaged ({error}): delete {folder} and run the workflow again") from error


def first_position(encoder: Any) -> int:
    """Return the position of a text's first token: the padding id + 1 in RoBERTa's family, 0 elsewhere."""
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def positions_available(encoder: Any) -> int:
    """Return the most tokens that the encoder has positions for, special tokens included."""
    return int(encoder.config.max_position_embeddings) - first_position(encoder)


def is_frozen(module: Any) -> bool:
    """Whether a module has no trainable parameter."""
    return not any(parameter.requires_grad for parameter in module.parameters())


def padding_id(encoder: Any) -> int:
    """Return the id that pads short texts; the attention mask hides it."""
    return int(encoder.config.pad_token_id or 0)


def position_ids(encoder: Any, attention_mask: torch.Tensor, after: int) -> torch.Tensor:
    """Return the position ids of texts that follow `after` prompt positions.

    attention_mask and the result: (batch, tokens).
    """
    if first := first_position(encoder):
        return (attention_mask.cumsum(1) + after) * attention_mask + first - 1
    return torch.arange(after, after + attention_mask.shape[1], device=attention_mask.device).expand_as(attention_mask)
