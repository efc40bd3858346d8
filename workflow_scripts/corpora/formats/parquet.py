"""Parquet, one record batch at a time. Nested columns become lists and dicts.

Files of the library `datasets` state the names of class labels in their metadata: see `class_names`.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.formats import FormatOptions, Record
from workflow_scripts.corpora.formats.text import check_expansion

# Rows in memory. A dictionary can put one long text into each row, at no cost for the file.
BATCH = 64
UNREADABLE = (ValueError, OverflowError, LookupError, pa.ArrowException)  # what Arrow raises for a single value
LARGE_BATCH = 64 * 2**20  # bytes; such a batch becomes Python objects a row at a time
BUFFER = 2**20  # bytes of a column that are read at once; by default Arrow reads the whole file ahead


def records(path: Path, options: FormatOptions, where: str) -> Iterator[tuple[Record, str]]:
    """Each row; its place is `train.parquet, row 7`, counted from 1.

    Raises UserError, naming file and row, for a file that is not parquet, is damaged or contains text that is not
    UTF-8.
    """
    number = size = 0
    try:
        # `ParquetFile`, since `read_table` would import Arrow's datasets, and with them pandas.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
            _check_names(file.schema_arrow.names, where)
            for batch in file.iter_batches(batch_size=BATCH):
                size += batch.nbytes
                check_expansion(path, size, where)
                for record in _rows(batch, number, where):
                    number += 1
                    yield record, f"{where}, row {number}"
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:  # the second: a name of a column
        raise _unreadable(error, where) from error


def class_names(path: Path, where: str | None = None) -> dict[str, list[str]]:
    """The names of class labels by column, in the order of their numbers; empty if the file states none.

    Dots name nested columns. The names of a column of lists (such as the tags of a sentence) are those of its items.
    The metadata are those that `datasets.Features` writes, under the key `huggingface`. Raises UserError.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:  # the second: a name of a column
        raise _unreadable(error, where or str(path)) from error
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return dict(_class_labels(features, ""))


def _class_labels(feature: Any, name: str) -> Iterator[tuple[str, list[str]]]:
    if isinstance(feature, list):  # how older releases write a list
        yield from _class_labels(feature[0], name)
    elif not isinstance(feature, dict):
        return
    elif feature.get("_type") == "ClassLabel":
        yield name, list(feature.get("names", []))
    elif isinstance(feature.get("_type"), str):
        yield from _class_labels(feature.get("feature"), name)
    else:
        for key, inner in feature.items():
            yield from _class_labels(inner, f"{name}.{key}" if name else key)


def _rows(batch: pa.RecordBatch, before: int, where: str) -> Iterator[Record]:
    """The rows as Python objects. A row at a time, which takes 15 times as long, only where it is needed."""
    if batch.nbytes <= LARGE_BATCH:
        records: list[Record] = []
        with contextlib.suppress(*UNREADABLE):  # reported below, with the row
            records = batch.to_pylist()
        if records or not batch.num_rows:
            yield from records
            return
    for place in range(batch.num_rows):
        try:
            record = batch.slice(place, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            row = f"{where}, row {before + place + 1}"
            raise UserError(f"{row}: not UTF-8 ({error.reason}): write the file again from UTF-8") from error
        except UNREADABLE as error:  # a date of the year 300,000
            row, reason = f"{where}, row {before + place + 1}", " ".join(str(error).split())[:200]
            raise UserError(f"{row}: a value that cannot be read ({reason}): leave its column out") from error
        yield record


def _check_names(names: list[str], where: str) -> None:
    twice = sorted(name for name, number in Counter(names).items() if number > 1)
    if twice:
        raise UserError(f"{where}: more than one column is named {twice[0]!r}: rename one of them")


def _unreadable(error: Exception, where: str) -> UserError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{where}: cannot be read as parquet ({reason}): fetch it again")
