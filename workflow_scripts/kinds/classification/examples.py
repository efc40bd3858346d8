"""Examples of classification: the texts, and the name of each label."""

from collections.abc import Mapping, Sequence
from typing import Any

from workflow_scripts.kinds.protocol import Row

ANSWERS = "labels"
NO_ANSWER = "(no label)"


def differ(predictions: Sequence[Any]) -> bool:
    """Whether there are two labels among the predictions."""
    return len(set(predictions)) > 1


def goodness(row: Row, prediction: Any) -> float:
    """100 for the correct label."""
    return 100.0 * (prediction == row["label"])


def shown(row: Row, predictions: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, str]]:
    """The texts, the label and the predicted labels; a prediction that was made elsewhere may be no label (None)."""
    texts = [row["text"]] if row["text_pair"] is None else [row["text"], row["text_pair"]]
    return texts, [row["label"]], {arm: NO_ANSWER if label is None else label for arm, label in predictions.items()}
