"""All scores of a grid in one tidy table: one row for each model, language and metric, with the model's settings.

The table can be read without knowing this project: every name, unit and setting that a score depends on is in its row.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workflow_scripts.core.files import written

UNIT = "percent"
SCHEMA = pa.schema(
    {
        "encoder": pa.string(),
        "task": pa.string(),
        "task_title": pa.string(),
        "kind": pa.string(),
        "source": pa.string(),
        "shots": pa.int32(),
        "method": pa.string(),
        "prompt_length": pa.int32(),
        "seed": pa.int64(),
        "language": pa.string(),
        "language_name": pa.string(),
        "metric": pa.string(),
        "value": pa.float64(),
        "unit": pa.string(),
        "made_elsewhere": pa.bool_(),
        "learning_rate": pa.float64(),
        "epochs": pa.float64(),
        "epochs_taken": pa.float64(),
        "stopped": pa.string(),
        "batch_size": pa.int32(),
        "max_length": pa.int32(),
        "keep": pa.string(),
        "answers": pa.string(),
        "precision": pa.string(),
        "quantise": pa.string(),
        "validation": pa.float64(),
        "tuned_parameters": pa.int64(),
        "encoder_parameters": pa.int64(),
        "seconds": pa.float64(),
        "peak_memory_mb": pa.float64(),
        "stored_bytes": pa.int64(),
        "device": pa.string(),
        "problem": pa.string(),
    }
)
OF_RECORD = (
    "learning_rate epochs epochs_taken stopped precision validation tuned_parameters encoder_parameters seconds"
    " peak_memory_mb stored_bytes device problem"
).split()
OF_SETTINGS = "batch_size max_length keep answers quantise".split()


def settings_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a run's record (`run.json`) gives."""
    own = record["settings"]
    return {name: record[name] for name in OF_RECORD} | {name: own.get(name) for name in OF_SETTINGS}


def write_tidy(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the rows as parquet, with `SCHEMA`; a column that a row lacks is empty."""
    table = pa.Table.from_pylist([{name: row.get(name) for name in SCHEMA.names} for row in rows], schema=SCHEMA)
    with written(path) as temporary, temporary.open("wb") as file:
        pq.write_table(table, file)
