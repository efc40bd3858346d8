"""Checking that a checkpoint can be tuned, before it is stored and without reading its weights.

Transformers itself loads the tokenizer and builds the model on the meta device, which allocates no memory.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from workflow_scripts.core.errors import UserError
from workflow_scripts.encoders.architecture import (
    Kind,
    architecture,
    converted,
    kind_of,
    language_model,
    refuse_untunable,
    refuse_unusable_type,
)
from workflow_scripts.encoders.weights import read_header, tensor_files

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

FEW_LAYERS = 200  # may share their weights
FLOATS = ("F64", "F32", "F16", "BF16")
INTEGERS = ("BOOL", "I16", "I32", "I64", "U16", "U32", "U64")  # types of position and mask buffers, not of weights


class _Checkpoint:
    """A checkpoint's folder, its name in error messages, and its configuration as transformers reads it."""

    def __init__(self, folder: Path, where: str) -> None:
        self.folder = folder
        self.where = where
        self.config: Any = None

    def error(self, what: str) -> UserError:
        """Return a one-line error that names the checkpoint."""
        return UserError(f"{self.where}: {what}")

    def attempt(self, call: Callable[[], Result], what: str, fix: str) -> Result:
        """Return the result of `call`; raise UserError with what failed, the library's message and the fix."""
        try:
            return call()
        except BaseException as error:  # A panic in the Rust code of tokenizers is not an Exception.
            if isinstance(error, (UserError, MemoryError, KeyboardInterrupt, SystemExit)):
                raise
            text = " ".join(str(error).split()).replace(str(self.folder), self.where)[:200]
            raise self.error(f"{what} ({type(error).__name__}: {text or 'no message'}): {fix}") from error


def check_checkpoint(folder: Path, where: str) -> dict[str, Any]:
    """Check that later steps can use a checkpoint; return its `kind` and whether it has an `output_layer`.

    Args:
        folder: contains the files of the checkpoint and nothing else.
        where: the checkpoint's name in error messages, such as the folder that it was copied from.

    Raises UserError, naming the file, if they cannot.
    """
    checkpoint = _Checkpoint(folder, where)
    with _quiet_library():
        _check_configuration(checkpoint)
        _check_tokenizer(checkpoint)
        kind = _check_weights(checkpoint)
        return {"kind": kind, "output_layer": _has_output_layer(checkpoint, kind)}


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Silence transformers within the block: errors get one line of ours instead."""
    from transformers.utils import logging as library

    before, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity(logging.CRITICAL)
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(before)
        if bars:
            library.enable_progress_bar()


def _check_configuration(checkpoint: _Checkpoint) -> None:
    from transformers import AutoConfig

    checkpoint.config = checkpoint.attempt(
        lambda: AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False),
        f"config.json cannot be read by transformers {version('transformers')}",
        "correct it, or choose another encoder",
    )
    try:
        refuse_unusable_type(checkpoint.config)
    except UserError as error:
        raise checkpoint.error(str(error)) from error
    if getattr(checkpoint.config, "quantization_config", None):
        raise checkpoint.error(
            "config.json has a quantization_config, and quantized weights cannot be tuned: use the checkpoint in"
            " float32, float16 or bfloat16"
        )


def _check_tokenizer(checkpoint: _Checkpoint) -> None:
    """Load the tokenizer and try it. Raises UserError if it cannot be used."""
    from transformers import AutoTokenizer

    folder = checkpoint.folder
    files = " and ".join(
        sorted(path.name for path in folder.iterdir() if path.name.startswith(("tokenizer.", "vocab.", "merges.")))
    )

    def load() -> Any:
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except ImportError as error:
            package = " ".join(str(error).split())[:200]
            raise checkpoint.error(
                f"the tokenizer of {files} needs a package that is not installed ({package}): add a tokenizer.json"
                " (AutoTokenizer's save_pretrained writes it)"
            ) from error

    tokenizer = checkpoint.attempt(
        load,
        f"{files} cannot be loaded by tokenizers {version('tokenizers')}",
        "the file is damaged or was written by a newer version: fetch it again, or save it again with the versions in"
        " envs/requirements.txt",
    )
    if not tokenizer.is_fast:
        raise checkpoint.error(
            f"{type(tokenizer).__name__} is not a fast tokenizer, which word and answer positions require: add a"
            " tokenizer.json"
        )
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    pieces = {*tokenizer.get_vocab().values()} - special
    if not pieces:  # Transformers silently builds a tokenizer of special tokens only.
        raise checkpoint.error(
            f"{type(tokenizer).__name__}, the tokenizer for {checkpoint.config.model_type} models, reads no vocabulary"
            f" from {files}: add a tokenizer.json (AutoTokenizer's save_pretrained writes it)"
        )
    pair = checkpoint.attempt(
        lambda: tokenizer("a b", "c", return_offsets_mapping=True)["input_ids"],
        f"the tokenizer of {files} cannot tokenise a text",
        "save it again with a token for unknown input, such as [UNK]",
    )
    separable = tokenizer.num_special_tokens_to_add(pair=True) or tokenizer("\n", add_special_tokens=False)["input_ids"]
    if not separable:  # `kinds.tokenizer` separates by a line break where the tokenizer does not separate
        raise checkpoint.error(
            f"the tokenizer of {files} adds no special tokens and drops line breaks, so that nothing would separate the"
            " two texts of a pair: write tokenizer.json with a post-processor, such as [CLS] A [SEP] B [SEP]"
        )
    # Only special tokens that occur in a tokenised pair count: the tokenizer's class may have added others, such as a
    # mask token, that the encoder has no row for.
    largest, rows = max(pieces | {*pair}), checkpoint.config.vocab_size
    if largest >= rows:
        raise checkpoint.error(
            f"the tokenizer of {files} has the token id {largest}, but config.json has a vocab_size of {rows}: use"
            " tokenizer and weights from the same checkpoint"
        )
    if 2 * len(tokenizer) < rows:
        logger.warning(
            "%s: the tokenizer of %s has %d tokens, but the model has embeddings for %d: check that the files are"
            " complete",
            *(checkpoint.where, files, len(tokenizer), rows),
        )


def _check_weights(checkpoint: _Checkpoint) -> Kind:
    """Build the model on the meta device and compare it with the weights' headers; return its kind.

    Raises UserError if they differ.
    """
    import torch
    from safetensors import safe_open

    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in tensor_files(checkpoint.folder):
        try:
            found |= read_header(file)
        except UserError as error:
            raise checkpoint.error(str(error)) from error
        # The safetensors library checks the header more strictly than `read_header`.
        checkpoint.attempt(partial(safe_open, file, framework="np"), f"{file.name} is damaged", "fetch it again")
    for name, (kind, _) in found.items():
        if kind not in (*FLOATS, *INTEGERS):
            raise checkpoint.error(
                f"the weights are quantized ({name!r} is of type {kind}): use the checkpoint in float32, float16 or"
                " bfloat16"
            )
    layers = getattr(checkpoint.config, "num_hidden_layers", 0)
    if isinstance(layers, int) and layers > max(FEW_LAYERS, len(found)):  # building them would not end
        raise checkpoint.error(
            f"config.json has {layers} layers, but the weights have {len(found)} tensors: correct it, or choose another"
            " encoder"
        )
    library = f"transformers {version('transformers')}"

    def build() -> tuple[Any, Any, dict[str, bool]]:
        model_class, options = architecture(checkpoint.config, with_pooler=any("pooler." in name for name in found))
        with torch.device("meta"):
            return model_class(checkpoint.config, **options), model_class, options

    model, model_class, options = checkpoint.attempt(
        build,
        f"config.json does not describe a model that {library} can build",
        "correct it, or choose another encoder",
    )
    try:
        refuse_untunable(model)
    except UserError as error:
        raise checkpoint.error(str(error)) from error
    prefix = f"{model.base_model_prefix}."
    shapes = {name.removeprefix(prefix): shape for name, (_, shape) in found.items()}
    if all(shapes.get(name) == tuple(wanted.shape) for name, wanted in model.state_dict().items()):
        return kind_of(model)
    again = "write the checkpoint again with AutoModel's save_pretrained"
    _, fault = checkpoint.attempt(
        lambda: converted(model_class, checkpoint.folder, checkpoint.config, options, device_map="meta"),
        f"the weights cannot be converted by {library}",
        again,
    )
    if fault:
        raise checkpoint.error(f"the weights do not match config.json: {fault}: {again}")
    return kind_of(model)


def _has_output_layer(checkpoint: _Checkpoint, kind: Kind) -> bool:
    """Return whether the checkpoint has all weights of the language model, its output layer included."""
    found = language_model(checkpoint.config, kind)
    if found is None:
        return False
    _, fault = checkpoint.attempt(
        lambda: converted(found, checkpoint.folder, checkpoint.config, {}, device_map="meta"),
        "the language model cannot be built",
        "choose another encoder",
    )
    return not fault
