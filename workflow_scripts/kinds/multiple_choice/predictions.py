"""Predictions of multiple choice that were made elsewhere: the place of a choice, its label or its text."""

from collections.abc import Sequence
from typing import Any

from workflow_scripts.kinds.predictions import NotAnAnswerError, check_number, place_of
from workflow_scripts.kinds.protocol import Row


def prediction_of(value: Any, row: Row, labels: Sequence[str]) -> int:
    """The place of the choice, counted from 0. The value is a label of the task, this place, or the choice's text.

    Raises NotAnAnswerError for anything else.
    """
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else repr(value)
    choices = [choice.strip() for choice in row["choices"]]
    if text in labels:
        return list(labels).index(text)
    place = place_of(text, len(choices))
    if place is not None:
        return place
    if choices.count(text) == 1:
        return choices.index(text)
    known = f"one of {', '.join(labels)}, nor " if labels else ""
    raise NotAnAnswerError(
        f"prediction {text!r} is neither {known}a place from 0 to {len(choices) - 1}, nor the text of one choice"
    )


def choice_of(place: int, choices: int, row: Row, labels: Sequence[str]) -> int:
    """The place itself. Raises UserError unless there are as many choices as the row has."""
    check_number(choices, len(row["choices"]), "the row's number of choices is")
    return place
