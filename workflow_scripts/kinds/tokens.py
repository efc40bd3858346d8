"""Token folders: the tokens of a corpus, memory-mapped and shared by every run.

A folder holds a `datasets` Arrow table (readable with `datasets.load_from_disk`) and `tokens.json`, its record, which
is written last. A row of the table is a *feature*, one input of the encoder. A long text may give several.

Columns of every kind: `row` (int32, the row of the corpus that the feature was cut from), `input_ids` (list of int32)
and, where the tokenizer makes them, `token_type_ids`. The modules of the kinds say which columns they add: numbers
(int32 or float32) or lists of int32.
"""

import hashlib
import itertools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import appears, naming, read_json, unreadable, write_json, written
from workflow_scripts.core.folders import move_into
from workflow_scripts.kinds.protocol import Columns, Row

ARROW = "data-00000-of-00001.arrow"  # as `datasets` names a single file


class Ragged:
    """Rows of unequal length in one flat array: row i is `values[starts[i]:starts[i + 1]]`."""

    def __init__(self, values: np.ndarray, starts: np.ndarray) -> None:
        self.values = values
        self.starts = starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.starts[index] : self.starts[index + 1]]

    def lengths(self, indices: np.ndarray | None = None) -> np.ndarray:
        """The length of each row, or of the chosen ones."""
        return np.diff(self.starts) if indices is None else self.starts[indices + 1] - self.starts[indices]

    def padded(self, indices: Sequence[int] | np.ndarray, filler: int, length: int) -> np.ndarray:
        """The chosen rows as an int64 array (rows, length), filled up at the right."""
        rows = [self[index] for index in indices]
        result = np.full((len(rows), length), filler, dtype=np.int64)
        for target, row in zip(result, rows, strict=True):
            target[: len(row)] = row
        return result


class Tokens:
    """The features of a token folder; nothing is copied until it is needed."""

    def __init__(self, columns: Mapping[str, np.ndarray | Ragged], record: Mapping[str, Any]) -> None:
        self.columns = columns
        self.record = record

    def __len__(self) -> int:
        return len(self.columns["row"])

    def ragged(self, name: str) -> Ragged:
        """A column of lists."""
        column = self.columns[name]
        assert isinstance(column, Ragged), name
        return column

    def plain(self, name: str) -> np.ndarray:
        """A column of numbers."""
        column = self.columns[name]
        assert isinstance(column, np.ndarray), name
        return column

    def chosen(self, features: Sequence[int]) -> "Tokens":
        """Some of the features, in the order given."""

        def column(values: np.ndarray | Ragged) -> np.ndarray | Ragged:
            if isinstance(values, np.ndarray):
                return values[list(features)]
            lists = [values[feature] for feature in features]
            return Ragged(np.concatenate(lists), np.cumsum([0, *map(len, lists)]))

        return Tokens({name: column(values) for name, values in self.columns.items()}, self.record)


def in_memory(columns: Columns) -> Tokens:
    """The columns of at least one feature as tokens, without a folder."""

    def column(values: list[Any]) -> np.ndarray | Ragged:
        if not isinstance(values[0], (list, tuple)):
            return np.array(values, dtype=np.float32 if isinstance(values[0], float) else np.int32)
        starts = np.cumsum([0, *map(len, values)])
        return Ragged(np.fromiter(itertools.chain.from_iterable(values), np.int32, int(starts[-1])), starts)

    return Tokens({name: column(values) for name, values in columns.items()}, {})


def joined(parts: Sequence[Tokens], balanced: bool = False) -> Tokens:
    """The features of several corpora, one after the other; their rows are numbered consecutively, as in `joined_rows`.

    balanced: take as many rows of each as the smallest has: a random choice, always the same.
    """
    if len(parts) == 1:
        return parts[0]
    counts = [int(part.record["rows"]) for part in parts]
    columns: dict[str, np.ndarray | Ragged] = {}
    kept = []
    for part, count in zip(parts, counts, strict=True):
        rows = np.random.default_rng(0).permutation(count)[: min(counts)] if balanced else np.arange(count)
        kept.append(part.chosen(np.flatnonzero(np.isin(part.plain("row"), rows)).tolist()))
    for name, first in kept[0].columns.items():
        if isinstance(first, Ragged):
            lists = [part.ragged(name) for part in kept]
            values = np.concatenate([column.values for column in lists])
            columns[name] = Ragged(values, np.cumsum([0, *np.concatenate([column.lengths() for column in lists])]))
        else:
            shifts = np.cumsum([0, *counts[:-1]]) if name == "row" else [0] * len(kept)
            columns[name] = np.concatenate([part.plain(name) + shift for part, shift in zip(kept, shifts, strict=True)])
    total = sum(counts)
    return Tokens(columns, {"rows": total, "parts": [dict(part.record) for part in parts], "balanced": balanced})


def joined_rows(parts: Mapping[str, list[Row]]) -> list[Row]:
    """The rows of one training language, or of several, one after the other.

    Those of several name their `language`, since a metric may depend on it, and get a number in front of their ids,
    which parallel corpora share.
    """
    if len(parts) == 1:
        (rows,) = parts.values()
        return rows
    return [
        {**row, "id": f"{number}/{row['id']}", "language": language}
        for number, (language, rows) in enumerate(parts.items())
        for row in rows
    ]


def write_tokens(record_path: Path, columns: Columns, record: dict[str, Any]) -> None:
    """Write a token folder; the record that is given is completed by the features' count and checksum.

    Files of other names in the folder stay.
    """
    from datasets import Dataset, Features, List, Value, disable_progress_bars

    disable_progress_bars()

    def feature(values: list[Any]) -> Any:
        if values and isinstance(values[0], (list, tuple)):
            return List(Value("int32"))
        return Value("float32" if values and isinstance(values[0], float) else "int32")

    features = Features({name: feature(values) for name, values in columns.items()})
    folder = record_path.parent
    temporary = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    lengths = [len(ids) for ids in columns["input_ids"]]
    record = {
        **record,
        "features": len(lengths),
        "tokens": sum(lengths),
        "longest": max(lengths),
        "sha256": _digest(columns),
    }
    try:
        with naming(record_path):
            Dataset.from_dict(columns, features=features).save_to_disk(temporary, num_shards=1)
            _join_batches(temporary / ARROW)
            write_json(temporary / record_path.name, record)
            move_into(temporary, folder, record_path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _join_batches(file: Path) -> None:
    """Make one batch of those of 1,000 rows that `datasets` writes: a column in pieces is copied when it is read."""
    table = pa.ipc.open_stream(file.read_bytes()).read_all().combine_chunks()
    with written(file) as temporary, temporary.open("wb") as opened, pa.ipc.new_stream(opened, table.schema) as stream:
        stream.write_table(table)


def _digest(columns: Columns) -> str:
    """A checksum of the content, independent of how Arrow lays it out."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(name.encode())
        for value in columns[name]:
            digest.update(np.asarray(value, dtype="<f4" if isinstance(value, float) else "<i4").tobytes() + b"|")
    return digest.hexdigest()


def read_tokens(record_path: Path) -> Tokens:
    """Memory-map a token folder. Raises UserError that names the folder when it is missing or damaged."""
    record = read_json(record_path)
    folder = record_path.parent
    again = f"delete {folder} and run the workflow again"
    if not isinstance(record, dict) or "features" not in record:
        raise UserError(f"{record_path} is not the record of a token folder: {again}")
    file = folder / ARROW
    if not appears(file):
        raise UserError(f"{file} is missing: {again}")
    try:
        # The stream format that `datasets` writes; read without it, since its import takes a second.
        table = pa.ipc.open_stream(pa.memory_map(str(file))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise unreadable(file, f"{folder} cannot be read ({error}): {again}") from error
    if table.num_rows != record["features"]:
        raise UserError(f"{folder} holds {table.num_rows} features, its record says {record['features']}: {again}")
    return Tokens({name: _column(table[name]) for name in table.column_names}, record)


def _column(chunked: pa.ChunkedArray) -> np.ndarray | Ragged:
    # Through DLPack: Arrow's own `to_numpy` imports pandas, 45 MiB and 0.3 s in every job.
    array = chunked.combine_chunks() if chunked.num_chunks != 1 else chunked.chunk(0)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return Ragged(np.from_dlpack(array.values), np.from_dlpack(array.offsets))
    return np.from_dlpack(array)
