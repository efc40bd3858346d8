"""How far tuning moves texts, and how near translations lie to one another (paper, tables 3 and 4).

A cosine is given in percent, as in the paper.
"""

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors at length 1: (samples, width)."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def pairs(first: np.ndarray, second: np.ndarray) -> float:
    """Mean cosine of row i of one with row i of the other: of translations, or before and after tuning (table 3)."""
    return 100 * float(np.sum(unit(first) * unit(second), axis=1).mean())


def other_pairs(first: np.ndarray, second: np.ndarray) -> float:
    """Mean cosine of row i of one with row j of the other over all i != j, the n(n - 1) ordered pairs (table 4, "neg").

    With vectors u, v of length 1 the sum over all pairs is (sum of u) (sum of v): exact, without a matrix of pairs.
    The paper counts n(n - 1) / 2 pairs; the mean is over (i, j) as well as (j, i) here, which are two different pairs
    of texts.
    """
    first, second = unit(first), unit(second)
    n = len(first)
    return 100 * float((first.sum(0) @ second.sum(0) - np.sum(first * second)) / (n * (n - 1)))


def relative_difference(translations: float, others: float) -> float:
    """(translation - non-translation) / non-translation in percent (table 4, "rel-diff").

    Infinite, or not a number, where non-translations have the cosine 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(100 * np.divide(translations - others, others))
