"""Parquet files of rows and of predictions.

A row is a plain dictionary with `id`, `group` and the columns of its kind (`kinds/KIND/rows.py`). Ids are strings,
unique within a file. Rows of two languages have the same id where they are translations of each other, and only there:
averages over languages count such rows as one draw. `group` names what rows share that are not independent of each
other, such as the context of questions.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import unreadable, written
from workflow_scripts.kinds import part
from workflow_scripts.kinds.protocol import Row

__all__ = [
    "Confidences",
    "Row",
    "read_confidences",
    "read_ids",
    "read_origin",
    "read_predictions",
    "read_rows",
    "schema_of",
    "write_predictions",
    "write_rows",
]

CONFIDENCES = ("confidence", "confidence_uncalibrated")  # columns of predictions
ORIGIN = b"crossprompt.origin"  # the key in the metadata of a parquet file
ROW_GROUP = 20_000  # rows


class Confidences(NamedTuple):
    """The probabilities of predictions by row id: one for the row's answer, or a list with one for each word's tag.

    Attributes:
        calibrated: at the model's temperature.
        uncalibrated: at temperature 1.
    """

    calibrated: Mapping[str, float | Sequence[float]]
    uncalibrated: Mapping[str, float | Sequence[float]]


def schema_of(kind: str) -> pa.Schema:
    """The columns of a kind's rows."""
    return pa.schema({"id": pa.string(), "group": pa.string(), **part(kind, "rows").FIELDS})


def write_rows(
    path: Path, rows: Iterable[Row], kind: str, origin: Callable[[], Mapping[str, Any]] | None = None
) -> int:
    """Write the rows as a parquet file: to a temporary name, then renamed. Returns their number.

    Rows are written in groups as they come, so that memory does not grow with their number. `origin` is called after
    the last row; what it returns goes into the file's metadata.
    """
    schema, number, left = schema_of(kind), 0, iter(rows)
    with written(path) as temporary, temporary.open("wb") as file, pq.ParquetWriter(file, schema) as writer:
        while batch := list(itertools.islice(left, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            number += len(batch)
        if origin is not None:
            writer.add_key_value_metadata({ORIGIN: json.dumps(origin(), sort_keys=True, ensure_ascii=False)})
    return number


def read_rows(path: Path, kind: str) -> list[Row]:
    """Read what `write_rows` wrote. Raises UserError if the file is missing, damaged or of another kind."""
    table = _read_table(path)
    if not table.schema.equals(schema_of(kind)):
        raise UserError(f"{path} does not hold {kind} rows: delete it and run again")
    return table.to_pylist()


def read_ids(path: Path) -> list[str]:
    """The ids of rows, in their order. Raises UserError if the file is missing or damaged."""
    return _read_table(path, ["id"])["id"].to_pylist()


def read_origin(path: Path) -> dict[str, Any] | None:
    """The origin that `write_rows` or `write_predictions` stored in a file, or None."""
    metadata = pq.read_metadata(path).metadata or {}
    return json.loads(metadata[ORIGIN]) if ORIGIN in metadata else None


def write_predictions(
    path: Path,
    predictions: Mapping[str, Any],
    origin: Mapping[str, Any] | None = None,
    confidences: Confidences | None = None,
) -> None:
    """Write predictions by row id: a label, a list of tags or a text each, as JSON so that one schema holds all.

    `origin` goes into the file's metadata, for `read_origin`. The columns of `confidences` are empty without them.
    """
    texts = [json.dumps(value, ensure_ascii=False) for value in predictions.values()]
    columns = {"id": pa.array(predictions, pa.string()), "prediction": pa.array(texts, pa.string())}
    for place, name in enumerate(CONFIDENCES):
        found = [None if confidences is None else confidences[place][identity] for identity in predictions]
        by_word = any(isinstance(value, list) for value in found)
        columns[name] = pa.array(found, pa.list_(pa.float32()) if by_word else pa.float32())
    table = pa.table(columns)
    if origin is not None:
        table = table.replace_schema_metadata({ORIGIN: json.dumps(origin, sort_keys=True, ensure_ascii=False)})
    with written(path) as temporary, temporary.open("wb") as file:
        pq.write_table(table, file)


def read_predictions(path: Path) -> dict[str, Any]:
    """Read what `write_predictions` wrote. Raises UserError if the file is missing or damaged."""
    columns = _read_table(path).to_pydict()
    return {identity: json.loads(text) for identity, text in zip(columns["id"], columns["prediction"], strict=True)}


def read_confidences(path: Path) -> Confidences | None:
    """The probabilities that `write_predictions` wrote; None without them. Raises UserError as `read_predictions`."""
    columns = _read_table(path).to_pydict()
    if any(values is None for name in CONFIDENCES for values in columns[name]):
        return None
    calibrated, uncalibrated = (dict(zip(columns["id"], columns[name], strict=True)) for name in CONFIDENCES)
    return Confidences(calibrated, uncalibrated)


def _read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        # `ParquetFile`, since `read_table` would import Arrow's datasets, and with them pandas.
        with pq.ParquetFile(path) as file:
            return file.read(columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise unreadable(path, f"{path} cannot be read as parquet ({error}): delete it and run again") from error
