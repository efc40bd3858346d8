"""Loading a pretrained language model from its folder, always offline.

`load_encoder` loads everything below the output layer, memory-mapped: a decoder without its output layer, an
encoder-decoder without its decoder. `load_language_model` loads everything.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import unreadable
from workflow_scripts.encoders.architecture import architecture, converted, kind_of, language_model
from workflow_scripts.encoders.weights import tensor_files
from workflow_scripts.tuning.backbone.deberta import use_attention
from workflow_scripts.tuning.backbone.layers import attention_like, uses_interface
from workflow_scripts.tuning.backbone.output_layer import OutputLayer

logger = logging.getLogger(__name__)

# How configurations name a probability of dropout: BERT's hidden_dropout_prob, Llama's attention_dropout, GPT-2's
# attn_pdrop, T5's dropout_rate.
DROPOUT_NAMES = ("dropout", "dropout_prob", "pdrop", "dropout_rate")


def load_encoder(
    folder: Path,
    attention: str,
    dropout: float | None = None,
    check: Callable[[Any], None] | None = None,
    bidirectional: bool = False,
) -> Any:
    """Load a language model with memory-mapped weights in the checkpoint's number format.

    A page is read when it is first used. `acceleration.bfloat16.set_precision` converts the weights.

    Args:
        folder: a Hugging Face checkpoint folder with safetensors files.
        attention: the name of a registered attention implementation.
        dropout: replaces every dropout probability in the checkpoint's configuration, as in the paper's code.
        check: called with the model before any weight is read; may raise.
        bidirectional: whether a decoder's tokens attend to later ones as well (LLM2Vec, BehnamGhader et al., 2024).

    Raises UserError if a file is missing or damaged, or if its weights do not fit the configuration.
    """
    config = _configuration(folder)
    with_pooler = any("pooler." in name for name in _weight_names(folder))
    model, found, options = without_weights(config, attention, dropout, bidirectional, with_pooler)
    if check is not None:
        check(encoder_of(model))
    prefix = f"{model.base_model_prefix}."  # the model's prefix in a checkpoint with an output layer
    weights = _read_weights(folder, prefix)
    if all(name in weights and weights[name].shape == wanted.shape for name, wanted in model.state_dict().items()):
        words = model.get_input_embeddings().weight
        tables = [name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter is words]
        # Mapped separately, so that its pages can be freed when `keep_rows` replaces the table.
        weights |= {name: _read_weights(folder, prefix)[name] for name in tables}
        unexpected = model.load_state_dict(weights, strict=False, assign=True).unexpected_keys
        if unexpected:
            logger.info("%s: skipped tensors that the encoder does not use: %s", folder, ", ".join(sorted(unexpected)))
        return encoder_of(model)
    # An older checkpoint with other tensor names. Transformers converts it, which takes a copy in memory.
    logger.info("%s: tensor names or shapes differ from the architecture's; transformers converts them", folder)
    model, fault = converted(found, folder, config, options)
    if fault:
        raise UserError(
            f"{folder}: the weights do not match config.json: {fault}; write the checkpoint again with AutoModel's"
            " save_pretrained, delete this folder and run the workflow again"
        )
    return encoder_of(model)


def load_language_model(
    folder: Path,
    attention: str,
    dropout: float | None = None,
    check: Callable[[Any], None] | None = None,
) -> tuple[Any, OutputLayer]:
    """Load a language model with its output layer, which is that of masked words for an encoder.

    Return what `load_encoder` returns for the same arguments, and the output layer: for an encoder-decoder, its decoder
    too. Their weights are read into memory.

    Raises UserError as `load_encoder` does, and if the checkpoint has no output layer.
    """
    config = _configuration(folder)
    with torch.device("meta"):
        base, *_ = without_weights(config, attention, dropout, bidirectional=False, with_pooler=False)
        if check is not None:
            check(encoder_of(base))
    kind = kind_of(base)
    found = language_model(config, kind)
    if found is None:
        raise UserError(
            f"training.answers: found 'words'; transformers has no output layer for {kind}s of the type"
            f" {config.model_type!r}: set it to head"
        )
    model, fault = converted(found, folder, config, {})
    if fault:
        raise UserError(
            f"training.answers: found 'words', which needs the pretrained output layer, but in {folder} {fault}: use a"
            " checkpoint of the whole language model, or set it to head"
        )
    encoder = model.get_encoder() if kind == "encoder-decoder" else getattr(model, model.base_model_prefix)
    output_layer = OutputLayer(model, encoder, kind)
    return use_attention(encoder), output_layer


def _configuration(folder: Path) -> Any:
    """Return a checkpoint's configuration. Raises UserError if a file is missing."""
    from transformers import AutoConfig

    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise UserError(f"{folder} lacks config.json or *.safetensors: delete the folder and run the workflow again")
    return AutoConfig.from_pretrained(folder)


def without_weights(
    config: Any, attention: str, dropout: float | None, bidirectional: bool, with_pooler: bool
) -> tuple[Any, Any, dict[str, bool]]:
    """Build the model of a configuration, which is changed, with memory for its weights and arbitrary values in it.

    Arguments as for `load_encoder`, and for `architecture`. Returns the model, its class and the keyword arguments that
    it was constructed with. Raises UserError if a decoder's causal attention is to be lifted and cannot be.
    """
    from transformers.initialization import no_init_weights

    for part in (config, *(getattr(config, name) for name in config.sub_configs)):
        part.use_cache = False
        if bidirectional:
            part.is_causal = False
        for name in vars(part):
            value = getattr(part, name)
            # Some flags also have such a name: ESM's token_dropout.
            is_probability = name.endswith(DROPOUT_NAMES) and type(value) in (int, float)
            if dropout is not None and is_probability:
                setattr(part, name, dropout)
    config._attn_implementation = attention
    found, options = architecture(config, with_pooler=with_pooler)
    with no_init_weights():
        model = found(config, **options)
    if bidirectional and not any(map(uses_interface, attention_like(model))):
        raise UserError(
            f"training.attention: models of the type {config.model_type!r} do not use the attention interface of"
            " transformers, so their causal attention cannot be lifted: set it to pretrained"
        )
    return model, found, options


def encoder_of(model: Any) -> Any:
    """Return the encoder of an encoder-decoder, or the model itself, with attention that reads prompts."""
    return use_attention(model.get_encoder() if model.config.is_encoder_decoder else model)


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
            raise unreadable(
                file, f"{file} is damaged ({error}): delete {folder} and run the workflow again"
            ) from error
