"""Predictions of question answering that were made elsewhere: the text of the answer."""

from collections.abc import Sequence
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.protocol import Row


def prediction_of(value: Any, row: Row, labels: Sequence[str]) -> str:
    """The text; it may be empty, and need not be in the context. Raises UserError for anything but a text or number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"prediction {value!r} is not a text")
    return str(value).strip()
