"""Predictions of regression that were made elsewhere: scores."""

import math
from collections.abc import Sequence
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.protocol import Row


def prediction_of(value: Any, row: Row, labels: Sequence[str]) -> float:
    """The score, a finite number; it may be out of the task's range. Raises UserError for anything else."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise UserError(f"prediction {value!r} is not a number")
    return found
