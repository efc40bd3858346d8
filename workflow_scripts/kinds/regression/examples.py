"""Examples of regression: the texts, and scores with two decimals."""

from collections.abc import Mapping, Sequence
from typing import Any

from workflow_scripts.kinds.protocol import Row

ANSWERS = "labels"


def differ(predictions: Sequence[Any]) -> bool:
    """Whether there are two scores among the predictions, as they are shown."""
    return len(set(map(_shown, predictions))) > 1


def goodness(row: Row, prediction: Any) -> float:
    """100 for the gold score, half of it at a distance of 1, and less the further away."""
    return float(100 / (1 + abs(prediction - row["score"])))


def shown(row: Row, predictions: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, str]]:
    """The texts, the score and the predicted scores."""
    texts = [row["text"]] if row["text_pair"] is None else [row["text"], row["text_pair"]]
    return texts, [_shown(row["score"])], {arm: _shown(prediction) for arm, prediction in predictions.items()}


def _shown(score: float) -> str:
    return f"{score:.2f}"
