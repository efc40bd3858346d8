"""The row schema of each kind of task, and parquet files that hold such rows.

A row is a plain dictionary:

* sentence pair: `id`, `text_a`, `text_b`, `label`
* tagging: `id`, `tokens`, `tags`
* question answering: `id`, `context`, `question`, `answers` {`text`, `start`}; `start` counts code points, and is
  `ABSENT` for an answer that is nowhere in the context

Ids are strings, unique within a file. Rows of two languages have the same id where they are translations of each other,
and only there: averages over languages count such rows as one draw.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.files import written
from workflow_scripts.experiment.kinds import Kind

Row = dict[str, Any]
ABSENT = -1
ORIGIN = b"crossprompt.origin"  # the key in the metadata of a parquet file

SCHEMAS: dict[Kind, pa.Schema] = {
    "sentence_pair": pa.schema({"id": pa.string(), "text_a": pa.string(), "text_b": pa.string(), "label": pa.string()}),
    "tagging": pa.schema({"id": pa.string(), "tokens": pa.list_(pa.string()), "tags": pa.list_(pa.string())}),
    "question_answering": pa.schema(
        {
            "id": pa.string(),
            "context": pa.string(),
            "question": pa.string(),
            "answers": pa.struct({"text": pa.list_(pa.string()), "start": pa.list_(pa.int32())}),
        }
    ),
}


def check_row(row: Row, kind: Kind, labels: Sequence[str], where: str) -> None:
    """Refuse a row that the task cannot be trained or scored on; `oddity` finds what need not refuse a whole corpus.

    `where` names the row for the reader, such as `train-en.tsv, line 7`. Raises UserError.
    """

    def fail(what: str) -> None:
        raise UserError(f"{where}: {what}")

    if kind == "sentence_pair":
        if row["label"] not in labels:
            fail(f"label {row['label']!r} is not one of {', '.join(labels)}")
    elif kind == "tagging":
        if not row["tokens"]:
            fail("the sentence has no tokens")
        if len(row["tokens"]) != len(row["tags"]):
            fail(f"{len(row['tokens'])} tokens but {len(row['tags'])} tags")
        for position, (token, tag) in enumerate(zip(row["tokens"], row["tags"], strict=True), 1):
            if tag not in labels:
                fail(f"tag {tag!r} of token {position} ({token!r}) is not one of {', '.join(labels)}")
    else:
        texts, starts = row["answers"]["text"], row["answers"]["start"]
        if not texts or len(texts) != len(starts):
            fail(f"question {row['id']!r} has {len(texts)} answer texts and {len(starts)} starts")
        for text, start in zip(texts, starts, strict=True):
            if not text:
                fail(f"question {row['id']!r} has an answer without a text")
            if start != ABSENT and (start < 0 or not row["context"].startswith(text, start)):
                fail(f"answer {text!r} of question {row['id']!r} is not in its context at character {start}")


def oddity(row: Row, kind: Kind) -> str:
    """What is odd about a row that can be used nonetheless, in words; nothing for an ordinary row.

    Here and there a corpus has such a row. Where most rows are odd, the file is wrong or was read wrongly.
    """
    if kind == "tagging":
        return next(
            (f"token {place} is empty" for place, token in enumerate(row["tokens"], 1) if not token.strip()), ""
        )
    fields = ("text_a", "text_b") if kind == "sentence_pair" else ("question", "context")
    for field in fields:
        if not row[field].strip():
            return f"{field} is empty"
    if kind == "question_answering" and set(row["answers"]["start"]) == {ABSENT}:
        return f"answer {row['answers']['text'][0]!r} is not in its context"
    return ""


def write_rows(path: Path, rows: Iterable[Row], kind: Kind, origin: Mapping[str, Any] | None = None) -> None:
    """Write the rows as a parquet file: to a temporary name, then renamed. `origin` goes into its metadata."""
    table = pa.Table.from_pylist(list(rows), schema=SCHEMAS[kind])
    if origin is not None:
        text = json.dumps(origin, sort_keys=True, ensure_ascii=False)
        table = table.replace_schema_metadata({ORIGIN: text.encode()})
    with written(path) as temporary:
        pq.write_table(table, temporary)


def read_rows(path: Path, kind: Kind) -> list[Row]:
    """Read what `write_rows` wrote. Raises UserError if the file is missing, damaged or of another kind."""
    table = _read_table(path)
    if not table.schema.equals(SCHEMAS[kind]):
        raise UserError(f"{path} does not hold {kind} rows: delete it and run again")
    return table.to_pylist()


def read_origin(path: Path) -> dict[str, Any] | None:
    """Return the origin that `write_rows` stored in a file (name, files, licences), or None."""
    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata[ORIGIN]) if ORIGIN in metadata else None


def write_predictions(path: Path, predictions: Mapping[str, Any]) -> None:
    """Write predictions by row id: a label, a list of tags or a text each, as JSON so that one schema holds all."""
    texts = [json.dumps(value, ensure_ascii=False) for value in predictions.values()]
    table = pa.table({"id": pa.array(predictions, pa.string()), "prediction": pa.array(texts, pa.string())})
    with written(path) as temporary:
        pq.write_table(table, temporary)


def read_predictions(path: Path) -> dict[str, Any]:
    """Read what `write_predictions` wrote. Raises UserError if the file is missing or damaged."""
    columns = _read_table(path).to_pydict()
    return {identity: json.loads(text) for identity, text in zip(columns["id"], columns["prediction"], strict=True)}


def _read_table(path: Path) -> pa.Table:
    try:
        # `ParquetFile`, since `read_table` would import Arrow's datasets, and with them pandas.
        with pq.ParquetFile(path) as file:
            return file.read()
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} cannot be read as parquet ({error}): delete it and run again") from error
