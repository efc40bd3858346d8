"""The contribution of each test example to a score: the data of intervals and tests.

Every metric is a ratio of sums over units, 100 * sum(numerator) / sum(denominator). A unit is a group of rows that are
not independent of each other (the column `group`): the questions about one context, the pairs with the same first text
(XNLI has three hypotheses for each premise), or one tagged sentence. It is named by the id of its first row, so that a
unit of a parallel corpus has the same name in all languages.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import written
from workflow_scripts.corpora.schema import Row
from workflow_scripts.evaluation.metrics import in_order
from workflow_scripts.kinds import part
from workflow_scripts.kinds.settings import ScoringSettings

SCHEMA = pa.schema(
    {
        "language": pa.dictionary(pa.int32(), pa.string()),
        "metric": pa.dictionary(pa.int32(), pa.string()),
        "unit": pa.string(),
        "numerator": pa.float64(),
        "denominator": pa.float64(),
    }
)

Sums = dict[str, tuple[float, float]]  # (numerator, denominator) by the name of the unit


def contributions(
    kind: str, rows: Sequence[Row], predictions: Mapping[str, Any], scoring: ScoringSettings
) -> dict[str, Sums]:
    """The sums of every metric of `metrics.score`, by unit, in the order of the units' first rows.

    Takes rows and predictions that `metrics.score` has accepted.
    """
    parts = part(kind, "metrics").contributions(rows, in_order(rows, predictions), scoring)
    units = unit_names(rows)
    return {metric: _by_unit(units, values) for metric, values in parts.items()}


def unit_names(rows: Sequence[Row]) -> list[str]:
    """The unit of each row, by the id of the unit's first row."""
    first: dict[str, str] = {}
    return [first.setdefault(row["group"], row["id"]) for row in rows]


def _by_unit(units: Sequence[str], values: Sequence[tuple[float, float]]) -> Sums:
    sums: Sums = {}
    for unit, (numerator, denominator) in zip(units, values, strict=True):
        before = sums.get(unit, (0.0, 0.0))
        sums[unit] = (before[0] + numerator, before[1] + denominator)
    return sums


def write_units(path: Path, units: Mapping[str, Mapping[str, Sums]]) -> None:
    """Write the sums of one tuned model, by language and metric, as parquet: one row per language, metric and unit."""
    rows = [
        (language, metric, unit, *sums)
        for language, metrics in units.items()
        for metric, by_unit in metrics.items()
        for unit, sums in by_unit.items()
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    with written(path) as temporary, temporary.open("wb") as file:
        pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), file)


def read_units(path: Path, metric: str) -> dict[str, Sums]:
    """One metric's sums by language, from what `write_units` wrote. Raises UserError for a missing or damaged file."""
    try:
        table = pq.read_table(path, columns=SCHEMA.names, filters=[("metric", "=", metric)])
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} cannot be read as units ({error}): delete it and run again") from error
    columns = table.to_pydict()
    units: dict[str, Sums] = {}
    for language, unit, *sums in zip(
        *(columns[name] for name in ("language", "unit", "numerator", "denominator")), strict=True
    ):
        units.setdefault(language, {})[unit] = (sums[0], sums[1])
    return units
