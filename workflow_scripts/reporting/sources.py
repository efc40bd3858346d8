"""Training sources: the languages that a model was tuned on. `en` is one language, `en+de` the union of two."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

DEFAULT = "en"


def with_source(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its column `source`; a table from before sources were recorded is of models tuned on English."""
    if "source" in table:
        return table
    place = list(table.columns).index("task") + 1 if "task" in table else len(table.columns)
    filled = table.copy()
    filled.insert(place, "source", pd.Series(DEFAULT, index=table.index, dtype="object"))
    return filled


def source_of(record: Mapping[str, Any]) -> str:
    """The source of a record, as `with_source` for tables."""
    return str(record.get("source", DEFAULT))


def parse_source(source: str) -> list[str]:
    """The languages of a source: `en+de` is English and German."""
    return [code for code in source.split("+") if code]
