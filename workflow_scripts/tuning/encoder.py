"""Loading a pretrained encoder from its folder: memory-mapped, without its pretraining head, never over the network."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.encoders.architecture import architecture, converted, refuse_causal
from workflow_scripts.encoders.weights import tensor_files
from workflow_scripts.experiment.errors import UserError

logger = logging.getLogger(__name__)


def load_encoder(
    folder: Path, attention: str, dropout: float | None = None, check: Callable[[Any], None] | None = None
) -> Any:
    """The encoder in float32, its weights memory-mapped: a page is read when it is first used.

    Args:
        folder: a Hugging Face checkpoint folder with safetensors files.
        attention: the name of a registered attention implementation.
        dropout: replaces every dropout probability of the checkpoint's configuration, as in the paper's code.
        check: is shown the architecture before any weight is read, and may raise.

    Raises UserError when the folder lacks a file, holds a decoder, or its weights do not fit the configuration.
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
    prefix = f"{model.base_model_prefix}."  # a checkpoint with a pretraining head has its encoder under this name
    weights = _read_weights(folder, prefix)
    if all(name in weights and weights[name].shape == wanted.shape for name, wanted in model.state_dict().items()):
        words = model.get_input_embeddings().weight
        (table,) = [name for name, parameter in model.named_parameters() if parameter is words]
        # Mapped apart from the rest, so that its pages leave the memory when `keep_rows` lets go of it.
        weights[table] = _read_weights(folder, prefix)[table]
        unexpected = model.load_state_dict(weights, strict=False, assign=True).unexpected_keys
        if unexpected:
            logger.info("%s: not a part of the encoder, left out: %s", folder, ", ".join(sorted(unexpected)))
        return model.float()
    # An older checkpoint with other names: the library knows how to convert it, at the price of a copy.
    logger.info("%s: names or shapes differ from the architecture's; converted by transformers", folder)
    model, fault = converted(found, folder, config, options)
    if fault:
        raise UserError(
            f"{folder}: the weights are not those of config.json: {fault}; write the checkpoint again with AutoModel's"
            " save_pretrained, delete this folder and run the workflow again"
        )
    return model.float()


def _weight_names(folder: Path) -> list[str]:
    """The names of a checkpoint's tensors."""
    from safetensors import safe_open

    def names(file: Path) -> list[str]:
        with safe_open(file, framework="pt") as tensors:
            return list(tensors.keys())

    return [name for found in _of_each_file(folder, names) for name in found]


def _read_weights(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors by their names without the prefix, memory-mapped."""
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
    """The position of a text's first token: RoBERTa and its kin begin after the padding token's id, others with 0."""
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def positions_available(encoder: Any) -> int:
    """How many tokens the encoder has positions for."""
    return int(encoder.config.max_position_embeddings) - first_position(encoder)


def is_frozen(module: Any) -> bool:
    """Whether none of the parameters of an encoder, or of a part of one, is trained."""
    return not any(parameter.requires_grad for parameter in module.parameters())


def padding_id(encoder: Any) -> int:
    """The id that fills up short texts; the attention mask hides it."""
    return int(encoder.config.pad_token_id or 0)


def position_ids(encoder: Any, attention_mask: torch.Tensor, after: int) -> torch.Tensor:
    """Position ids for texts that come after `after` prompt positions. attention_mask and result: (batch, tokens)."""
    if first := first_position(encoder):
        return (attention_mask.cumsum(1) + after) * attention_mask + first - 1
    return torch.arange(after, after + attention_mask.shape[1], device=attention_mask.device).expand_as(attention_mask)
