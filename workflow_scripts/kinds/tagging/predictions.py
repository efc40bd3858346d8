"""Predictions of tagging that were made elsewhere: a tag for each word."""

from collections.abc import Sequence
from typing import Any

from workflow_scripts.kinds.predictions import tags
from workflow_scripts.kinds.protocol import Row


def prediction_of(value: Any, row: Row, labels: Sequence[str]) -> list[str]:
    """The tags. Raises UserError for another number of them than words, and for an unknown one."""
    return tags(value, row, labels)
