"""The safetensors files of a checkpoint: which ones they are, and what their headers say."""

import json
import math
import struct
from pathlib import Path
from typing import Any

from workflow_scripts.experiment.errors import UserError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs.github.com/spec/"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def weight_files(folder: Path) -> list[str]:
    """The names of the files that hold the weights, the index of several first. Raises UserError if there are none."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / INDEX).is_file():
        weight_map = read_object(folder / INDEX).get("weight_map")
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


def tensor_files(folder: Path) -> list[Path]:
    """The safetensors files among them."""
    return [folder / name for name in weight_files(folder) if name != INDEX]


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object. Raises UserError."""
    refuse_pointer(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def refuse_pointer(path: Path) -> None:
    """Raises UserError if a file is what Git leaves of one that Git LFS has not downloaded."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise UserError(f"{path} is a pointer of Git LFS, not the file: run `git lfs pull` where it was cloned")


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The data type and shape of each tensor in a safetensors file, by name. Raises UserError if it is damaged.

    The header is JSON after its length (uint64); the data fills the rest of the file.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError(f"the header is said to have {length} bytes")
            header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = 8 + length + max(entry["data_offsets"][1] for entry in entries.values())
        tensors = {name: (str(entry["dtype"]), tuple(map(int, entry["shape"]))) for name, entry in entries.items()}
    except (struct.error, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path.name} is no safetensors file ({error}): fetch it again") from error
    if end != size:
        raise UserError(f"{path.name} has {size} bytes, not {end}: it was cut off or damaged; fetch it again")
    return tensors


def count_elements(path: Path) -> int:
    """The elements of all tensors in a safetensors file, from its header alone. Raises UserError if it is damaged."""
    return sum(math.prod(shape) for _, shape in read_header(path).values())
