"""Rows of regression: `text`, `text_pair` (None for a task with one text) and `score`.

The task's `labels` are the lowest and the highest score, such as [0, 5].
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.classification.rows import group, oddity
from workflow_scripts.kinds.protocol import Row
from workflow_scripts.kinds.values import number, optional_text, text

__all__ = [
    "FIELDS",
    "check_labels",
    "from_record",
    "group",
    "labels_in",
    "oddity",
    "placeholder",
    "problem",
    "score_range",
]

FIELDS = {"text": pa.string(), "text_pair": pa.string(), "score": pa.float64()}


def score_range(labels: Sequence[Any]) -> tuple[float, float]:
    """The lowest and the highest score. Raises UserError unless the labels are two ascending numbers."""
    try:
        low, high = map(float, labels)
    except (TypeError, ValueError, OverflowError):
        low, high = 0.0, 0.0
    if not low < high < float("inf") or low == -float("inf"):
        raise UserError(
            f"labels: [{', '.join(map(str, labels))}] are not the lowest and the highest score of a regression task,"
            " such as [0, 5]"
        )
    return low, high


def check_labels(labels: Sequence[Any]) -> None:
    """Raise UserError unless the labels are the lowest and the highest score."""
    score_range(labels)


def labels_in(row: Row) -> Sequence[Any]:
    """The score of the row."""
    return [row["score"]]


def from_record(record: Mapping[str, Any], where: str) -> Row:
    """The texts and the score."""
    return {
        "text": text(record, "text", where),
        "text_pair": optional_text(record, "text_pair", where),
        "score": number(record, "score", where),
    }


def problem(row: Row, labels: Sequence[str]) -> str:
    """The score must be in the task's range."""
    low, high = score_range(labels)
    return "" if low <= row["score"] <= high else f"score {row['score']:g} is not between {low:g} and {high:g}"


def placeholder(record: Mapping[str, Any], labels: Sequence[str]) -> Row:
    """A placeholder score, for a text without one."""
    return {"score": score_range(labels)[0]}
