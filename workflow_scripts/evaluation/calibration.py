"""Calibration: whether the probabilities of predicted answers are the shares of them that are correct.

The expected calibration error (Naeini et al. 2015; Guo et al. 2017, section 2) sorts the answers by their probability,
cuts them into bins, and averages the distance between a bin's mean probability and its share of correct answers,
weighted by the bin's answers. The bins hold equally many answers (Nguyen and O'Connor 2015). Bins of equal width would
be nearly empty, or hold nearly all answers, since most probabilities of a tuned model are close to 1.

Even perfectly calibrated probabilities have an error above 0: if 85 % of the answers are correct, about 9 points with
100 answers, 3 with 1,000, and 1 with 10,000. The mean probability minus the accuracy has no such bias.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.schema import Confidences, Row
from workflow_scripts.evaluation.metrics import in_order
from workflow_scripts.kinds import part
from workflow_scripts.kinds.settings import ScoringSettings

BINS = 15  # as in Guo et al. 2017
COLUMNS = ("answers", "error", "error_uncalibrated", "confidence", "confidence_uncalibrated", "accuracy")


def expected_calibration_error(confidences: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """The expected calibration error in percentage points.

    Args:
        confidences: the probability of each predicted answer, (answers,).
        correct: whether it is correct, (answers,).
        bins: of equally many answers; sizes differ by at most one. Fewer answers than bins have one bin each.

    The order of answers with equal probabilities does not matter: they share the mean of their correctness.
    """
    _, group, sizes = np.unique(confidences, return_inverse=True, return_counts=True)
    shares = (np.bincount(group, correct) / sizes)[group]
    order = np.argsort(confidences, kind="stable")
    differences = (confidences - shares)[order]
    parts = np.array_split(differences, min(bins, len(differences)))
    return 100.0 * float(sum(abs(part.sum()) for part in parts)) / len(differences)


def calibration(
    kind: str,
    rows: Sequence[Row],
    predictions: Mapping[str, Any],
    confidences: Confidences | None,
    scoring: ScoringSettings,
) -> dict[str, float] | None:
    """The values of `COLUMNS` for one test set, in percent except for the number of answers.

    An answer belongs to a row, or is the tag of one word. None without probabilities, or for a kind that does not say
    which answers are correct (`kinds.protocol.Metrics`). Raises UserError if the numbers of probabilities and answers
    differ.
    """
    find_correct = getattr(part(kind, "metrics"), "correct", None)
    if confidences is None or find_correct is None:
        return None
    found = find_correct(rows, in_order(rows, predictions), scoring)
    correct = np.array([answer for of_row in found for answer in of_row], dtype=np.float64)
    calibrated, uncalibrated = (_of_answers(rows, by_row, found) for by_row in confidences)
    return {
        "answers": len(correct),
        "error": expected_calibration_error(calibrated, correct),
        "error_uncalibrated": expected_calibration_error(uncalibrated, correct),
        "confidence": 100.0 * float(calibrated.mean()),
        "confidence_uncalibrated": 100.0 * float(uncalibrated.mean()),
        "accuracy": 100.0 * float(correct.mean()),
    }


def _of_answers(
    rows: Sequence[Row], by_row: Mapping[str, float | Sequence[float]], correct: Sequence[Sequence[bool]]
) -> np.ndarray:
    """The probability of each answer, (answers,)."""
    found: list[float] = []
    for row, answers in zip(rows, correct, strict=True):
        value = by_row[row["id"]]
        of_row = [value] if isinstance(value, float) else value
        if len(of_row) != len(answers):
            raise UserError(
                f"row {row['id']!r} has {len(answers)} answers but {len(of_row)} probabilities: predict again"
            )
        found += of_row
    return np.array(found)
