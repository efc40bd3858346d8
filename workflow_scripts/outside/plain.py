"""Predictions in JSON lines, CSV or another tabular format: a record for each row, with its id and the prediction."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.corpora.formats import FormatOptions, column, format_of, records
from workflow_scripts.kinds import part
from workflow_scripts.kinds.protocol import Row
from workflow_scripts.outside.answers import Answer, identity
from workflow_scripts.outside.settings import ImportSettings


def answers(file: Path, settings: ImportSettings) -> Iterator[Answer]:
    """Each answer with the place of its record. Raises UserError for a file that is missing, empty or damaged."""
    read = getattr(part(settings.kind, "predictions"), "prediction_of", None)
    for record, where in records(file, FormatOptions(format_of(file))):
        value = column(record, settings.prediction, where)
        spelt = settings.values.get(str(value).strip(), value) if isinstance(value, str | int) else value

        def of_row(row: Row, value: Any = spelt) -> Any:
            return value if read is None else read(value, row, settings.labels)

        yield Answer(identity(column(record, settings.id, where), where), where, of_row)
