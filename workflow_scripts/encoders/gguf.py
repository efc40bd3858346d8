"""Converting a GGUF file to a Hugging Face checkpoint with transformers' own loader.

GGUF files hold the weights of llama.cpp, mostly quantized in blocks. The loader dequantizes them and undoes the
differences in names and order. The output layer is kept, so that the checkpoint also predicts words: `AutoModel` skips
it, and `AutoModelForCausalLM` reads it.

The loader reads only some of a file's settings, and silently skips tensors that it does not know. `convert` refuses a
file where that would change the model.
"""

import contextlib
import io
import logging
from collections import Counter
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json, sha256, write_json
from workflow_scripts.encoders.gguf_header import check_header

logger = logging.getLogger(__name__)

PACKAGE = "gguf"
VERSION = "0.19.0"
MAGIC = b"GGUF"
FILE = "model.gguf"  # the name under which the loader sees the file
BLOCK = 2**20


def join(parts: list[Path], target: Path) -> None:
    """Write the concatenated parts of a file."""
    with target.open("wb") as file:
        for part in parts:
            with part.open("rb") as opened:
                while block := opened.read(BLOCK):
                    file.write(block)


def check_sha256(file: Path, wanted: str | None, where: str) -> str:
    """Return a file's SHA-256. Raises UserError if it is not `wanted`; `where` is the file's name in the message."""
    found = sha256(file)
    if wanted is not None and found != wanted.lower():
        raise UserError(f"{where} has the SHA-256 {found}, not {wanted}: fetch it again, or correct `sha256`")
    return found


def convert(file: Path, folder: Path, where: str, sha256_wanted: str | None = None) -> dict[str, Any]:
    """Write the checkpoint of a GGUF file into the new folder `folder`; return facts for the manifest.

    The weights are stored in the narrowest of bfloat16, float16 and float32 that represents all dequantized values
    exactly, which for quantized files is float32. The conversion takes memory for two copies of the weights in float32
    and, for a vocabulary of 262,144 pieces, half a minute for the tokenizer.

    `where` is the file's name in error messages. The facts: `sha256` of the file, `tensors` (how many of each GGUF
    type), `stored_as` (the type of the weights in the checkpoint).

    Raises UserError if the file is damaged, or if the loader cannot read all of it.
    """
    reader = _open(file, where)
    checksum = check_sha256(file, sha256_wanted, where)
    folder.mkdir()
    link = folder / FILE
    link.symlink_to(file.resolve())  # the loader would also read other files beside the original
    logger.info("%s: dequantizing %d tensors; this takes a minute or more", where, len(reader.tensors))
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars that cannot be turned off
        model, left = _attempt(lambda: _load(folder), where)
        _refuse_incomplete(model, left, reader, where)
        tokenizer = _attempt(lambda: _load_tokenizer(folder), where)
        stored_as = _store(model, folder)
        tokenizer.save_pretrained(folder)
    link.unlink()
    # The class that takes everything from tokenizer.json. Model-specific classes may build a part of it themselves.
    settings = read_json(folder / "tokenizer_config.json") | {"tokenizer_class": "PreTrainedTokenizerFast"}
    write_json(folder / "tokenizer_config.json", settings)
    kinds = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    return {"sha256": checksum, "tensors": dict(sorted(kinds.items())), "stored_as": stored_as}


def _open(file: Path, where: str) -> Any:
    """Return the reader of a GGUF file. Raises UserError for any other file, or if the package `gguf` is missing."""
    try:
        version_of(PACKAGE)
        from gguf import GGUFReader
    except (PackageNotFoundError, ImportError):
        raise UserError(f"{where}: reading it needs the package {PACKAGE}: pip install {PACKAGE}=={VERSION}") from None
    if not file.is_file():
        raise UserError(f"{where} does not exist: set the path of a GGUF file")
    with file.open("rb") as opened:
        magic = opened.read(len(MAGIC))
    if magic != MAGIC:
        raise UserError(f"{where} is not a GGUF file: it starts with {magic!r}, not {MAGIC!r}")
    fix = "it is truncated or damaged; fetch it again"
    _attempt(lambda: check_header(file), where, fix)
    return _attempt(lambda: GGUFReader(file), where, fix)


def _attempt(
    call: Any, where: str, fix: str = "use a checkpoint in safetensors, with `source: folder` or `hub`"
) -> Any:
    """Return the result of `call`; raise UserError with the library's message and the fix."""
    try:
        return call()
    except (MemoryError, UserError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{where} cannot be read ({type(error).__name__}: {text or 'no message'}): {fix}") from error


def _load(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Return the model in float32 with its output layer, and the loader's report of unused and missing tensors."""
    import torch
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        GgufConfig,
    )

    found: Any = AutoModel
    config = AutoConfig.from_pretrained(folder, gguf_file=FILE)
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        found = AutoModelForCausalLM
    elif type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        found = AutoModelForSeq2SeqLM
    return found.from_pretrained(
        folder,
        gguf_file=FILE,
        config=config,  # reading it again would take seconds
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
    )


def _load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer; one without a token for padding pads with the end of text or the unknown token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _refuse_incomplete(model: Any, left: dict[str, Any], reader: Any, where: str) -> None:
    """Raise UserError if the loader left out a tensor of the model or of the file, or the scaling of positions."""
    fix = "use a checkpoint in safetensors, with `source: folder` or `hub`"
    for name in sorted(left["missing_keys"]):
        raise UserError(f"{where}: transformers finds no tensor for {name} in the file: {fix}")
    for name, shape, wanted in left["mismatched_keys"]:
        raise UserError(f"{where}: {name} has the shape {list(shape)} instead of {list(wanted)}: {fix}")
    stored = sum(int(tensor.n_elements) for tensor in reader.tensors)
    loaded = sum(parameter.numel() for parameter in model.parameters())  # tied ones once
    if stored != loaded:
        scaled = any(tensor.name.startswith("rope_freqs") for tensor in reader.tensors)
        what = " (rope_freqs, which scales the rotary positions, is among the others)" if scaled else ""
        raise UserError(f"{where}: the file holds {stored:,} numbers, but transformers loads {loaded:,}{what}: {fix}")
    scaling = [field for name, field in reader.fields.items() if name.endswith(".rope.scaling.type")]
    if any(field.contents() != "none" for field in scaling) and "default" in _rope_types(model.config):
        raise UserError(f"{where}: the file scales rotary positions, which transformers does not read from it: {fix}")


def _rope_types(config: Any) -> set[str]:
    """Return the types of rotary positions in a configuration, which may have one for each type of layer."""
    found = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in found.values() if isinstance(value, dict)]
    return {str(value.get("rope_type")) for value in nested or [found]}


def _store(model: Any, folder: Path) -> str:
    """Save the model as one that was never quantized, since the library saves no other; return its weights' type."""
    import torch

    state = model.state_dict()
    narrow = next((kind for kind in (torch.bfloat16, torch.float16) if _exact(state, kind)), torch.float32)
    config = model.config
    config.dtype = narrow
    with torch.device("meta"):
        plain = type(model)(config)
    plain.load_state_dict({name: tensor.to(narrow) for name, tensor in state.items()}, assign=True)
    plain.tie_weights()
    plain.save_pretrained(folder, max_shard_size="5GB")
    for file in folder.glob("*.safetensors"):
        # safetensors makes it readable for its owner only; on a shared disk it needs the other files' permissions.
        file.chmod((folder / "config.json").stat().st_mode)
    return str(narrow).removeprefix("torch.")


def _exact(state: dict[str, Any], kind: Any) -> bool:
    """Whether a type represents all weights exactly."""
    return all(bool((tensor.to(kind).float() == tensor).all()) for tensor in state.values())
