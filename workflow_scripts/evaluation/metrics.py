"""Scores of predictions, by the metrics of a kind of task.

All values are percentages: floats up to 100, not rounded.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.schema import Row
from workflow_scripts.kinds import part
from workflow_scripts.kinds.settings import ScoringSettings


def score(kind: str, rows: Sequence[Row], predictions: Mapping[str, Any], scoring: ScoringSettings) -> dict[str, float]:
    """All metrics of a kind of task, in percent, the main one first.

    Args:
        kind: the kind of the task.
        rows: the gold rows.
        predictions: by row id, as the kind's `decode` returns them.
        scoring: what else the metrics depend on.

    Raises UserError if there are no rows, or if rows and predictions differ in their ids.
    """
    values: dict[str, float] = part(kind, "metrics").score(rows, in_order(rows, predictions), scoring)
    return values


def baseline(kind: str, rows: Sequence[Row], scoring: ScoringSettings) -> float:
    """The main metric, in percent, of always predicting the same: see `kinds.protocol.Metrics.baseline`."""
    value: float = part(kind, "metrics").baseline(rows, scoring)
    return value


def in_order(rows: Sequence[Row], predictions: Mapping[str, Any]) -> list[Any]:
    """The prediction of each row. Raises UserError if there are no rows, or if the ids differ."""
    if not rows:
        raise UserError("there are no rows to score")
    ids = {row["id"]: None for row in rows}  # a dictionary as a set that keeps its order
    missing = [row_id for row_id in ids if row_id not in predictions]
    extra = [row_id for row_id in predictions if row_id not in ids]
    counts = f"{len(rows)} rows, {len(predictions)} predictions"
    if missing:
        raise UserError(
            f"{len(missing)} rows have no prediction, the first is {missing[0]!r} ({counts}): predict again"
        )
    if extra:
        raise UserError(f"{len(extra)} predictions have no row, the first is {extra[0]!r} ({counts}): predict again")
    return [predictions[row["id"]] for row in rows]
