"""The confidence interval of one model's score over its test examples."""

import numpy as np
from scipy import stats

from workflow_scripts.evaluation.significance import CONFIDENCE, linearised


def score_interval(numerators: np.ndarray, denominators: np.ndarray, lowest: float = 0.0) -> tuple[float, float]:
    """Return the ends of the 95 % interval of 100 * sum(numerators) / sum(denominators), in percent.

    Units are drawn from many; a ratio's variance is that of its linear approximation. A score between 0 and 100 has
    Wilson's interval with the number of independent trials that have this variance (Korn and Graubard, 1998), so that
    even a score of 100 % on few units has an interval. Other scores have Student's interval.

    Args:
        numerators, denominators: of each unit, (units,).
        lowest: the lowest possible score.

    Both ends are NaN for fewer than two units, whose variance cannot be estimated.
    """
    score, influences, _ = linearised(numerators, denominators)
    units = len(influences)
    if units < 2:
        return np.nan, np.nan
    variance = float((influences**2).sum()) * units / (units - 1)
    if lowest < 0:
        half = stats.t.isf((1 - CONFIDENCE) / 2, units - 1) * np.sqrt(variance)
        return max(lowest, float(score - half)), min(100.0, float(score + half))
    share = float(score) / 100
    trials = share * (1 - share) * 1e4 / variance if variance > 0 else units
    quantile = stats.norm.isf((1 - CONFIDENCE) / 2) ** 2 / trials
    middle = (share + quantile / 2) / (1 + quantile)
    half = np.sqrt(quantile * share * (1 - share) + quantile**2 / 4) / (1 + quantile)
    return 100 * max(0.0, float(middle - half)), 100 * min(1.0, float(middle + half))
