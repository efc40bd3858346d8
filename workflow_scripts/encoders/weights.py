"""The safetensors files of a checkpoint and their headers."""

import math
import struct
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.json_text import decode

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
LARGEST_HEADER = 16 * 2**20  # bytes; 100,000 tensors take about 10 MB
POINTER = b"version https://git-lfs.github.com/spec/"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def weight_files(folder: Path) -> list[str]:
    """Return the names of the weight files, preceded by their index if there are several.

    Raises UserError if there are none, or if the index is wrong.
    """
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / INDEX).is_file():
        weight_map = read_object(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise UserError(f"{folder / INDEX} lists no weight files: fetch it again")
        shards = sorted(set(map(str, weight_map.values())))
        for shard in shards:
            # A name that contains a folder could point outside the checkpoint.
            if Path(shard).name != shard or not shard.endswith(".safetensors") or not (folder / shard).is_file():
                raise UserError(f"{folder / INDEX} lists the file {shard!r}, which the folder does not contain")
        return [INDEX, *shards]
    pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickled:
        raise UserError(
            f"{folder} has its weights in {pickled[0]}, a pickle, which can run code when it is loaded: if you trust"
            f" it, load it and write {WEIGHTS} with AutoModel's save_pretrained"
        )
    raise UserError(f"{folder} has no weights: add {WEIGHTS} or {INDEX} (AutoModel's save_pretrained writes them)")


def tensor_files(folder: Path) -> list[Path]:
    """Return the paths of a checkpoint's safetensors files. Raises UserError as `weight_files` does."""
    return [folder / name for name in weight_files(folder) if name != INDEX]


def read_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file. Raises UserError if it is missing, damaged or not an object."""
    refuse_pointer(path)
    try:
        content = decode(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def refuse_pointer(path: Path) -> None:
    """Raise UserError if a file is only a Git LFS pointer, which Git leaves until LFS downloads the file."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise UserError(f"{path} is a Git LFS pointer, not the file: run `git lfs pull` in the clone")


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return (data type, shape) of each tensor in a safetensors file, by name. Raises UserError if it is damaged.

    The file consists of the header's length (uint64), the header (JSON) and the data.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError(f"the header claims {length} bytes")
            if length > LARGEST_HEADER:
                raise ValueError(f"a header of {length:,} bytes")
            header = decode(file.read(length).decode())
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = 8 + length + max(entry["data_offsets"][1] for entry in entries.values())
        tensors = {name: (str(entry["dtype"]), tuple(map(int, entry["shape"]))) for name, entry in entries.items()}
    except (OSError, struct.error, ValueError, OverflowError, AttributeError, LookupError, TypeError) as error:
        raise UserError(f"{path.name} is not a safetensors file ({error}): fetch it again") from error
    if end != size:
        raise UserError(f"{path.name} has {size} bytes, not {end}: it is truncated or damaged; fetch it again")
    return tensors


def count_elements(path: Path) -> int:
    """Return the number of elements of all tensors in a safetensors file, from its header.

    Raises UserError if the file is damaged.
    """
    return sum(math.prod(shape) for _, shape in read_header(path).values())
