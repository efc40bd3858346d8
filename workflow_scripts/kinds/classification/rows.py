"""Rows of classification: `text`, `text_pair` (None for a task with one text) and `label`."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from workflow_scripts.kinds.protocol import Row
from workflow_scripts.kinds.values import optional_text, stripped, text, unknown

FIELDS = {"text": pa.string(), "text_pair": pa.string(), "label": pa.string()}


def from_record(record: Mapping[str, Any], where: str) -> Row:
    """The texts and the label."""
    return {
        "text": stripped(record, "text", where),
        "text_pair": optional_text(record, "text_pair", where),
        "label": text(record, "label", where).strip(),
    }


def problem(row: Row, labels: Sequence[str]) -> str:
    """The label must be one of the task's."""
    return "" if row["label"] in labels else f"label {row['label']!r} {unknown(row['label'], labels, 'values.label')}"


def oddity(row: Row) -> str:
    """A text may occasionally be empty."""
    return next((f"{name} is empty" for name in ("text", "text_pair") if row[name] is not None and not row[name]), "")


def labels_in(row: Row) -> Sequence[str]:
    """The labels that the row has."""
    return [row["label"]]


def group(row: Row) -> str:
    """Pairs with the same first text: XNLI has three hypotheses for each premise."""
    return str(row["id"] if row["text_pair"] is None else row["text"])


def placeholder(record: Mapping[str, Any], labels: Sequence[str]) -> Row:
    """A placeholder label, for a text without one."""
    return {"label": labels[0]}
