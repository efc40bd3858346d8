"""Correlations of predicted and gold scores, in percent, and each row's influence on them.

A correlation is no sum over rows. Its interval needs the influence of each row: the first derivative of the correlation
with respect to the row's weight (Croux and Dehon 2010, "Influence functions of the Spearman and Kendall correlation
measures"). Influences sum to zero, so that r + influence has the mean r.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from workflow_scripts.kinds.protocol import Row, Sums
from workflow_scripts.kinds.settings import ScoringSettings

Array = np.ndarray


def score(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> dict[str, float]:
    """`spearman` and `pearson`; 0 if all gold or all predicted scores are equal, where neither is defined."""
    gold, predicted = _arrays(rows, predictions)
    return {"spearman": 100 * pearson(_ranks(gold), _ranks(predicted))[0], "pearson": 100 * pearson(gold, predicted)[0]}


def baseline(rows: Sequence[Row], scoring: ScoringSettings) -> float:
    """0: scores that do not depend on the texts have no correlation."""
    return 0.0


def contributions(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> dict[str, Sums]:
    """The correlation plus the row's influence on it, and one for each row: the mean is the correlation exactly."""
    gold, predicted = _arrays(rows, predictions)
    found = {"spearman": spearman(gold, predicted), "pearson": pearson(gold, predicted)}
    return {
        metric: [(float(value), 1.0) for value in correlation + influence]
        for metric, (correlation, influence) in found.items()
    }


def pearson(first: Array, second: Array) -> tuple[float, Array]:
    """Pearson's correlation of two samples, each (n,), and the influence of each pair, (n,)."""
    u, v = _standardised(first), _standardised(second)
    if u is None or v is None:
        return 0.0, np.zeros(len(first))
    correlation = float(np.clip(np.mean(u * v), -1.0, 1.0))
    influence = u * v - correlation * (u**2 + v**2) / 2
    return correlation, influence - influence.mean()


def spearman(first: Array, second: Array) -> tuple[float, Array]:
    """Spearman's correlation of two samples, each (n,), and the influence of each pair, (n,).

    It is Pearson's correlation of the ranks, where ties share their mean rank. A pair has two influences: that of its
    own ranks on the correlation, and that of the pair on the ranks of all others.
    """
    x, y = _ranks(first), _ranks(second)
    u, v = _standardised(x), _standardised(y)
    if u is None or v is None:
        return 0.0, np.zeros(len(first))
    correlation, of_ranks = pearson(x, y)
    # One more such pair raises the rank of each larger value by 1, and that of each equal value by 1/2. The correlation
    # changes by (v - r u) / (n std) with one rank of `first`; influences are n times the change.
    of_others = _sum_above(first, v - correlation * u) / x.std() + _sum_above(second, u - correlation * v) / y.std()
    influence = of_ranks + of_others
    return correlation, influence - influence.mean()


def _sum_above(values: Array, weights: Array) -> Array:
    """For each value, the sum of the weights of all larger ones, and half of that of equal ones. All are (n,)."""
    _, places = np.unique(values, return_inverse=True)
    sums = np.bincount(places, weights)
    above = sums[::-1].cumsum()[::-1] - sums
    return (above + sums / 2)[places]


def _ranks(values: Array) -> Array:
    """Ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[places]


def _standardised(values: Array) -> Array | None:
    """Values with mean 0 and variance 1, or None if all are equal."""
    if values.min() == values.max():
        return None
    centred = values - values.mean()
    return centred / np.sqrt(np.mean(centred**2))


def _arrays(rows: Sequence[Row], predictions: Sequence[Any]) -> tuple[Array, Array]:
    return np.array([row["score"] for row in rows], dtype=float), np.array(predictions, dtype=float)
