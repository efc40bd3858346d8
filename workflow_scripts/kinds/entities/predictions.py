"""Predictions of entities that were made elsewhere: an IOB2 tag for each word."""

from collections.abc import Sequence
from typing import Any

from workflow_scripts.kinds.entities.rows import tags_of
from workflow_scripts.kinds.predictions import tags
from workflow_scripts.kinds.protocol import Row


def prediction_of(value: Any, row: Row, labels: Sequence[str]) -> list[str]:
    """The tags. Raises UserError for another number of them than words, and for an unknown one.

    An I tag that continues no entity is allowed, as in the predictions of our own models; the metrics ignore it.
    """
    return tags(value, row, tags_of(labels))
