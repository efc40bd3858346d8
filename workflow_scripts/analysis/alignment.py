"""Cosine similarities: of texts before and after tuning, and of translations (paper, tables 3 and 4).

Cosines are in percent, as in the paper.
"""

import numpy as np


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return the vectors scaled to length 1, (samples, width)."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def mean_cosine_of_pairs(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean cosine in percent between row i of `first` and row i of `second`, both (samples, width).

    The rows are texts before and after tuning (table 3), or translations of each other (table 4, "pos").
    """
    return 100 * float(np.sum(unit_vectors(first) * unit_vectors(second), axis=1).mean())


def mean_cosine_of_other_pairs(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean cosine in percent between row i of `first` and row j of `second`, i != j (table 4, "neg").

    Both are (samples, width). For unit vectors u and v, the sum over all pairs equals (sum of u) (sum of v), so that no
    matrix of pairs is needed. The paper counts n(n - 1) / 2 pairs; here the mean is over all n(n - 1) ordered pairs,
    since (i, j) and (j, i) are different pairs of texts.
    """
    first, second = unit_vectors(first), unit_vectors(second)
    n = len(first)
    return 100 * float((first.sum(0) @ second.sum(0) - np.sum(first * second)) / (n * (n - 1)))


def relative_difference(translations: float, others: float) -> float:
    """Return (translations - others) / others in percent (table 4, "rel-diff"); infinite or NaN if `others` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(100 * np.divide(translations - others, others))
