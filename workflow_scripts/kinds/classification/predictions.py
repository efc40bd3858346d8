"""Predictions of classification that were made elsewhere: labels."""

from collections.abc import Sequence
from typing import Any

from workflow_scripts.kinds.predictions import check_number, one_of
from workflow_scripts.kinds.protocol import Row


def prediction_of(value: Any, row: Row, labels: Sequence[str]) -> str:
    """The label. Raises NotAnAnswerError for anything else."""
    return one_of(value, labels)


def choice_of(place: int, choices: int, row: Row, labels: Sequence[str]) -> str:
    """The label at an index, counted from 0. Raises UserError unless there are as many choices as labels."""
    check_number(choices, len(labels), "the task's number of labels is")
    return labels[place]
