"""Shares of correct predictions."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

Value = TypeVar("Value", str, int)


def accuracy(gold: Sequence[Value], predicted: Sequence[Value]) -> float:
    """The share of correct predictions, in percent. Both sequences have the same length and are not empty."""
    right = sum(label == guess for label, guess in zip(gold, predicted, strict=True))
    return 100.0 * right / len(gold)


def most_frequent(values: Iterable[Value]) -> Value:
    """The most frequent value; ties go to the first to occur."""
    return Counter(values).most_common(1)[0][0]
