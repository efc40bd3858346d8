"""Examples of multiple choice: the text, the question, the choices, and the chosen texts."""

from collections.abc import Mapping
from typing import Any

from workflow_scripts.kinds.classification.examples import differ, goodness
from workflow_scripts.kinds.protocol import Row

__all__ = ["ANSWERS", "differ", "goodness", "shown"]

ANSWERS = "text"
NO_ANSWER = "(no choice)"


def shown(row: Row, predictions: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, str]]:
    """The text, the question if there is one, and the numbered choices; the correct and the predicted choices."""
    choices = row["choices"]
    numbered = " ".join(f"({number}) {choice}" for number, choice in enumerate(choices, 1))
    question = [] if row["question"] is None else [row["question"]]
    return (
        [row["text"], *question, numbered],
        [choices[row["label"]]],
        {arm: NO_ANSWER if place is None else choices[place] for arm, place in predictions.items()},
    )
