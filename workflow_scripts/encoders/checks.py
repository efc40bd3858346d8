"""Whether a checkpoint can be tuned, as far as that shows without reading its weights: checked before it is stored.

The library itself is asked: it loads the tokenizer, and builds the model on the meta device, which needs no memory.
"""

import logging
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from workflow_scripts.encoders.architecture import architecture, converted, refuse_causal
from workflow_scripts.encoders.weights import read_header, tensor_files
from workflow_scripts.experiment.errors import UserError

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

POINTER = b"version https://git-lfs.github.com/spec/"  # how a file of Git LFS begins that was not downloaded
FLOATS = ("F64", "F32", "F16", "BF16")
WHOLE_NUMBERS = ("BOOL", "I16", "I32", "I64", "U16", "U32", "U64")  # of positions and masks, which are no weights


def check_checkpoint(folder: Path, config: dict[str, Any], where: str) -> None:
    """Refuse a checkpoint that no later step could use.

    Args:
        folder: the files of the checkpoint, and nothing else.
        config: the content of config.json.
        where: what the reader knows the checkpoint by, such as the folder that it was copied from.

    Raises UserError that names the file.
    """
    for file in sorted(folder.iterdir()):
        with file.open("rb") as content:
            if content.read(len(POINTER)) == POINTER:
                raise UserError(
                    f"{where}: {file.name} is a pointer of Git LFS in place of the file: run `git lfs pull` where it"
                    " was cloned"
                )
    if config.get("quantization_config"):
        raise UserError(
            f"{where}: config.json has a quantization_config: quantized weights cannot be tuned; use the checkpoint in"
            " float32, float16 or bfloat16"
        )
    _check_tokenizer(folder, config, where)
    _check_model(folder, where)


def _check_tokenizer(folder: Path, config: dict[str, Any], where: str) -> None:
    """Load the tokenizer and try it. Raises UserError."""
    from transformers import AutoTokenizer

    names = sorted(path.name for path in folder.iterdir() if path.name.startswith(("tokenizer.", "vocab.", "merges.")))
    files = " and ".join(names)

    def load() -> Any:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    tokenizer = _asked(
        load,
        f"{where}: {files} cannot be loaded by tokenizers {version('tokenizers')}",
        "it is damaged, or of a newer version: fetch it again, or write it anew with the versions of"
        " envs/requirements.txt",
    )
    if not tokenizer.is_fast:
        raise UserError(
            f"{where}: {type(tokenizer).__name__} is no fast tokenizer, which word and answer positions need: add a"
            " tokenizer.json"
        )
    pair = _asked(
        lambda: tokenizer("a b", "c", return_offsets_mapping=True)["input_ids"],
        f"{where}: the tokenizer of {files} cannot read a text",
        "write it anew, with a token for what is unknown to it",
    )
    if tokenizer.num_special_tokens_to_add(pair=True) == 0:
        raise UserError(
            f"{where}: the tokenizer of {files} adds no special tokens, so that the two texts of a pair would run"
            " together: write tokenizer.json with a post-processor, such as [CLS] A [SEP] B [SEP]"
        )
    # Special tokens count where the tokenizer sets them: its class may have added one, such as a mask, that the encoder
    # was never meant to read.
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    largest, rows = max({*tokenizer.get_vocab().values()} - special | {*pair}), config.get("vocab_size")
    if isinstance(rows, int) and largest >= rows:
        raise UserError(
            f"{where}: the tokenizer of {files} has the token id {largest}, but config.json a vocab_size of {rows}: take"
            " tokenizer and weights of the same checkpoint"
        )
    if isinstance(rows, int) and 2 * len(tokenizer) < rows:
        logger.warning(
            "%s: the tokenizer of %s has %d tokens of a vocabulary of %d: is it whole?",
            *(where, files, len(tokenizer), rows),
        )


def _check_model(folder: Path, where: str) -> None:
    """Build the model without memory and compare it with the headers of the weights. Raises UserError."""
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig

    library = f"transformers {version('transformers')}"
    not_usable = f"{where}: config.json does not describe a model that {library} can build"
    correct = "correct it, or choose another encoder"
    try:
        found = {name: tensor for file in tensor_files(folder) for name, tensor in read_header(file).items()}
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    for file in tensor_files(folder):
        # The library is stricter about a header than we are.
        _asked(
            lambda file=file: safe_open(file, framework="np").keys(),
            f"{where}: {file.name} is damaged",
            "fetch it again",
        )
    for name, (kind, _) in found.items():
        if kind not in (*FLOATS, *WHOLE_NUMBERS):
            raise UserError(
                f"{where}: the weights are quantized, {name!r} is of type {kind}: use the checkpoint in float32, float16"
                " or bfloat16"
            )

    def build() -> tuple[Any, Any, Any, dict[str, bool]]:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        its_class, options = architecture(config, with_pooler=any("pooler." in name for name in found))
        with torch.device("meta"):
            return config, its_class(config, **options), its_class, options

    config, model, its_class, options = _asked(build, not_usable, correct)
    try:
        refuse_causal(model)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    prefix = f"{model.base_model_prefix}."
    shapes = {name.removeprefix(prefix): shape for name, (_, shape) in found.items()}
    if all(shapes.get(name) == tuple(wanted.shape) for name, wanted in model.state_dict().items()):
        return
    _, fault = _asked(
        lambda: converted(its_class, folder, config, options, device_map="meta"),
        f"{where}: the weights cannot be converted by {library}",
        "write the checkpoint again with AutoModel's save_pretrained",
    )
    if fault:
        raise UserError(
            f"{where}: the weights are not those of config.json: {fault}: write the checkpoint again with AutoModel's"
            " save_pretrained"
        )


def _asked(call: Callable[[], Result], what: str, way: str) -> Result:
    """The library's answer; whatever it raises is a fault of the checkpoint, in one line."""
    try:
        return call()
    except BaseException as error:  # a panic in the Rust code of tokenizers is no Exception
        if isinstance(error, (UserError, MemoryError, KeyboardInterrupt, SystemExit)):
            raise
        text = next((line for line in str(error).splitlines() if line.strip()), "no message")
        raise UserError(f"{what} ({type(error).__name__}: {text[:200]}): {way}") from error
