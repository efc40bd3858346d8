"""Accuracy of labels, as XTREME computes it for XNLI and PAWS-X."""

from collections.abc import Sequence
from typing import Any

from workflow_scripts.kinds.accuracy import accuracy, most_frequent
from workflow_scripts.kinds.protocol import Row, Sums
from workflow_scripts.kinds.settings import ScoringSettings


def score(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> dict[str, float]:
    """The share of correct labels, in percent."""
    return {"accuracy": accuracy([row["label"] for row in rows], predictions)}


def correct(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> list[list[bool]]:
    """Whether the label of each row is correct."""
    return [[row["label"] == guess] for row, guess in zip(rows, predictions, strict=True)]


def baseline(rows: Sequence[Row], scoring: ScoringSettings) -> float:
    """The accuracy of the most frequent label."""
    labels = [row["label"] for row in rows]
    return accuracy(labels, [most_frequent(labels)] * len(labels))


def contributions(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> dict[str, Sums]:
    """Correct labels and labels."""
    return {
        "accuracy": [(float(row["label"] == guess), 1.0) for row, guess in zip(rows, predictions, strict=True)],
    }
