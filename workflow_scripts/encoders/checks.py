"""Whether a checkpoint can be tuned, as far as that shows without reading its weights: checked before it is stored.

The library itself is asked: it loads the tokenizer, and builds the model on the meta device, which needs no memory.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from workflow_scripts.encoders.architecture import architecture, converted, refuse_causal
from workflow_scripts.encoders.weights import read_header, tensor_files
from workflow_scripts.experiment.errors import UserError

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

FLOATS = ("F64", "F32", "F16", "BF16")
WHOLE_NUMBERS = ("BOOL", "I16", "I32", "I64", "U16", "U32", "U64")  # of positions and masks, which are no weights


class _Checkpoint:
    """A checkpoint's folder, the name that the reader knows it by, and the library's configuration of it."""

    def __init__(self, folder: Path, where: str) -> None:
        self.folder = folder
        self.where = where
        self.config: Any = None

    def refusal(self, what: str) -> UserError:
        """One line that names the checkpoint."""
        return UserError(f"{self.where}: {what}")

    def ask(self, call: Callable[[], Result], what: str, way: str) -> Result:
        """The library's answer; whatever it raises is a fault of the checkpoint, in one line."""
        try:
            return call()
        except BaseException as error:  # a panic in the Rust code of tokenizers is no Exception
            if isinstance(error, (UserError, MemoryError, KeyboardInterrupt, SystemExit)):
                raise
            text = " ".join(str(error).split()).replace(str(self.folder), self.where)[:200]
            raise self.refusal(f"{what} ({type(error).__name__}: {text or 'no message'}): {way}") from error


def check_checkpoint(folder: Path, where: str) -> None:
    """Refuse a checkpoint that no later step could use.

    Args:
        folder: the files of the checkpoint, and nothing else.
        where: what the reader knows the checkpoint by, such as the folder that it was copied from.

    Raises UserError that names the file.
    """
    checkpoint = _Checkpoint(folder, where)
    with _quiet_library():
        _check_configuration(checkpoint)
        _check_tokenizer(checkpoint)
        _check_weights(checkpoint)


@contextmanager
def _quiet_library() -> Iterator[None]:
    """What transformers would tell of a checkpoint on the terminal, beside our one line."""
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

    checkpoint.config = checkpoint.ask(
        lambda: AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False),
        f"config.json cannot be read by transformers {version('transformers')}",
        "correct it, or choose another encoder",
    )
    if getattr(checkpoint.config, "quantization_config", None):
        raise checkpoint.refusal(
            "config.json has a quantization_config, and quantized weights cannot be tuned: use the checkpoint in"
            " float32, float16 or bfloat16"
        )


def _check_tokenizer(checkpoint: _Checkpoint) -> None:
    """Load the tokenizer and try it. Raises UserError."""
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
            raise checkpoint.refusal(
                f"the tokenizer of {files} needs a package that this workflow does not have ({package}): add a"
                " tokenizer.json (AutoTokenizer's save_pretrained writes it)"
            ) from error

    tokenizer = checkpoint.ask(
        load,
        f"{files} cannot be loaded by tokenizers {version('tokenizers')}",
        "it is damaged, or of a newer version: fetch it again, or save it again with the versions of"
        " envs/requirements.txt",
    )
    if not tokenizer.is_fast:
        raise checkpoint.refusal(
            f"{type(tokenizer).__name__} is no fast tokenizer, which word and answer positions need: add a"
            " tokenizer.json"
        )
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    pieces = {*tokenizer.get_vocab().values()} - special
    if not pieces:  # the library makes a tokenizer of nothing but special tokens, without a word
        raise checkpoint.refusal(
            f"{type(tokenizer).__name__}, the tokenizer of a {checkpoint.config.model_type}, reads no vocabulary from"
            f" {files}: add a tokenizer.json (AutoTokenizer's save_pretrained writes it)"
        )
    pair = checkpoint.ask(
        lambda: tokenizer("a b", "c", return_offsets_mapping=True)["input_ids"],
        f"the tokenizer of {files} cannot read a text",
        "save it again, with a token for what is unknown to it",
    )
    if tokenizer.num_special_tokens_to_add(pair=True) == 0:
        raise checkpoint.refusal(
            f"the tokenizer of {files} adds no special tokens, so that the two texts of a pair would run together:"
            " write tokenizer.json with a post-processor, such as [CLS] A [SEP] B [SEP]"
        )
    # Special tokens count where the tokenizer sets them: its class may have added one, such as a mask, that the encoder
    # was never meant to read.
    largest, rows = max(pieces | {*pair}), checkpoint.config.vocab_size
    if largest >= rows:
        raise checkpoint.refusal(
            f"the tokenizer of {files} has the token id {largest}, but config.json a vocab_size of {rows}: take"
            " tokenizer and weights of the same checkpoint"
        )
    if 2 * len(tokenizer) < rows:
        logger.warning(
            "%s: the tokenizer of %s has %d tokens, the model rows for %d: are these files whole?",
            *(checkpoint.where, files, len(tokenizer), rows),
        )


def _check_weights(checkpoint: _Checkpoint) -> None:
    """Build the model without memory and compare it with the headers of the weights. Raises UserError."""
    import torch
    from safetensors import safe_open

    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in tensor_files(checkpoint.folder):
        try:
            found |= read_header(file)
        except UserError as error:
            raise checkpoint.refusal(str(error)) from error
        # The library is stricter about a header than we are.
        checkpoint.ask(partial(safe_open, file, framework="np"), f"{file.name} is damaged", "fetch it again")
    for name, (kind, _) in found.items():
        if kind not in (*FLOATS, *WHOLE_NUMBERS):
            raise checkpoint.refusal(
                f"the weights are quantized, {name!r} is of type {kind}: use the checkpoint in float32, float16 or"
                " bfloat16"
            )
    library = f"transformers {version('transformers')}"

    def build() -> tuple[Any, Any, dict[str, bool]]:
        its_class, options = architecture(checkpoint.config, with_pooler=any("pooler." in name for name in found))
        with torch.device("meta"):
            return its_class(checkpoint.config, **options), its_class, options

    model, its_class, options = checkpoint.ask(
        build,
        f"config.json does not describe a model that {library} can build",
        "correct it, or choose another encoder",
    )
    try:
        refuse_causal(model)
    except UserError as error:
        raise checkpoint.refusal(str(error)) from error
    prefix = f"{model.base_model_prefix}."
    shapes = {name.removeprefix(prefix): shape for name, (_, shape) in found.items()}
    if all(shapes.get(name) == tuple(wanted.shape) for name, wanted in model.state_dict().items()):
        return
    again = "write the checkpoint again with AutoModel's save_pretrained"
    _, fault = checkpoint.ask(
        lambda: converted(its_class, checkpoint.folder, checkpoint.config, options, device_map="meta"),
        f"the weights cannot be converted by {library}",
        again,
    )
    if fault:
        raise checkpoint.refusal(f"the weights are not those of config.json: {fault}: {again}")
