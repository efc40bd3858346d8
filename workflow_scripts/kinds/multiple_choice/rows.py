"""Rows of multiple choice: `text`, `question` (None for a task without), `choices` and `label`.

`label` is the place of the correct choice, from 0. Rows may have different numbers of choices. A task that names its
`labels`, one for each place such as [A, B, C, D], requires that number of choices of every row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from workflow_scripts.kinds.protocol import Row
from workflow_scripts.kinds.values import number, optional_text, text, texts, unlike

FIELDS = {"text": pa.string(), "question": pa.string(), "choices": pa.list_(pa.string()), "label": pa.int32()}


def from_record(record: Mapping[str, Any], where: str) -> Row:
    """The texts and the place of the correct choice. Raises UserError for a label that is no whole number."""
    place = number(record, "label", where)
    if place != int(place):
        raise unlike(record, "label", "a whole number", where)
    return {
        "text": text(record, "text", where),
        "question": optional_text(record, "question", where),
        "choices": texts(record, "choices", where),
        "label": int(place),
    }


def problem(row: Row, labels: Sequence[str]) -> str:
    """There are two choices or more, or as many as the task has labels; the label is the place of one."""
    count = len(row["choices"])
    if labels and count != len(labels):
        return f"{count} choices, but the task has {len(labels)} labels: leave out `labels` if the number may differ"
    if count < 2:
        return f"{count} choices, where a model needs at least 2 to choose from"
    if not 0 <= row["label"] < count:
        return (
            f"label {row['label']} is not the place of one of {count} choices, counted from 0: set `first_label: 1` for"
            " a source that counts from 1"
        )
    return ""


def oddity(row: Row) -> str:
    """A text may occasionally be empty, or a choice occur twice."""
    for name in ("text", "question"):
        if row[name] is not None and not row[name].strip():
            return f"{name} is empty"
    for place, choice in enumerate(row["choices"], 1):
        if not choice.strip():
            return f"choice {place} is empty"
        if choice in row["choices"][: place - 1]:
            return f"choice {choice!r} occurs twice"
    return ""


def group(row: Row) -> str:
    """Rows with the same text: Belebele has up to two questions about each passage."""
    return str(row["text"])


def placeholder(record: Mapping[str, Any], labels: Sequence[str]) -> Row:
    """A placeholder choice, for a row whose correct choice is not known."""
    return {"label": 0}
