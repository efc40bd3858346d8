"""Values of records, checked for their type, with errors that name the place and the column."""

from collections.abc import Mapping
from typing import Any

from workflow_scripts.experiment.errors import UserError


def text(record: Mapping[str, Any], name: str, where: str) -> str:
    """A text; a number becomes its decimal digits. Raises UserError for a missing value or another type."""
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UserError(f"{where}: {name} is {_described(value)}, not a text: check `columns` of the task")
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def optional_text(record: Mapping[str, Any], name: str, where: str) -> str | None:
    """A text, or None where the task has no such column."""
    return text(record, name, where) if name in record else None


def texts(record: Mapping[str, Any], name: str, where: str) -> list[str]:
    """A list of texts. Raises UserError for another type."""
    value = record.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{where}: {name} is {_described(value)}, not a list of texts: check `columns` of the task")
    return value


def number(record: Mapping[str, Any], name: str, where: str) -> float:
    """A finite number, or the number that a text spells. Raises UserError for anything else."""
    value = record.get(name)
    try:
        found = float("nan") if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError):
        found = float("nan")
    if found - found != 0:  # not a number, or infinite
        raise UserError(f"{where}: {name} is {_described(value)}, not a number: check `columns` of the task")
    return found


def _described(value: Any) -> str:
    return "missing" if value is None else repr(value) if len(repr(value)) < 60 else f"{repr(value)[:60]}…"
