"""Values of records, checked for their type, with errors that name the place and the column."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from workflow_scripts.core.errors import UserError

SHOWN = 20  # labels in a message, at most


def text(record: Mapping[str, Any], name: str, where: str) -> str:
    """A text; a number becomes its decimal digits, `3.0` a `3`. Raises UserError for no value or another type."""
    value = record.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise unlike(record, name, "a text", where)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def stripped(record: Mapping[str, Any], name: str, where: str) -> str:
    """A text without white space around it. It is empty for a value that is there but null. Raises UserError."""
    return "" if name in record and record[name] is None else text(record, name, where).strip()


def optional_text(record: Mapping[str, Any], name: str, where: str) -> str | None:
    """A text without white space around it, or None where the task has no such column."""
    return stripped(record, name, where) if name in record else None


def texts(record: Mapping[str, Any], name: str, where: str) -> list[str]:
    """A list of texts. Raises UserError for another type."""
    value = record.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise unlike(record, name, "a list of texts", where)
    return value


def number(record: Mapping[str, Any], name: str, where: str) -> float:
    """A finite number, or the number that a text spells. Raises UserError for anything else."""
    value = record.get(name)
    try:
        found = float("nan") if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if found - found != 0:  # not a number, or infinite
        raise unlike(record, name, "a number", where)
    return found


def unlike(record: Mapping[str, Any], name: str, what: str, where: str) -> UserError:
    """The error for a column that a record lacks, or that has the wrong type."""
    value = record.get(name)
    if name not in record:
        columns = list(map(str, record))
        others = f" and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
        found = f"missing; the columns are {', '.join(columns[:SHOWN])}{others}"
    elif value is None:
        found = f"null, not {what}"
    else:
        text = repr(value)
        found = f"{text if len(text) < 60 else f'{text[:60]}…'}, not {what}"
    return UserError(f"{where}: {name} is {found}: check `columns` of the task")


def unknown(value: str, known: Sequence[str], key: str = "values") -> str:
    """The message for a label that the task does not have: `is not one of ...`, with the remedy.

    `key` is the key of the configuration that other spellings are listed under.
    """
    shown = ", ".join(known[:SHOWN]) + (f" and {len(known) - SHOWN} more" if len(known) > SHOWN else "")
    by_lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(value.lower(), by_lower, n=1)
    guess = f" (did you mean {by_lower[near[0]]!r}?)" if near else ""
    return f"is not one of {shown}{guess}: correct it, add it to `labels`, or give its spelling under `{key}`"
