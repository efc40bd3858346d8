"""What reading predictions that were made elsewhere has in common (`kinds/KIND/predictions.py`)."""

from collections.abc import Sequence
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.protocol import Row
from workflow_scripts.kinds.values import unknown


class NotAnAnswerError(UserError):
    """A prediction that is not a valid answer, such as a text that is not a label: models may give one."""


def one_of(value: Any, labels: Sequence[str]) -> str:
    """A label. Raises NotAnAnswerError for anything else; a whole number may be the name of a label."""
    label = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else repr(value)
    if label not in labels:
        raise NotAnAnswerError(f"prediction {label!r} {unknown(label, labels)}")
    return label


def tags(value: Any, row: Row, labels: Sequence[str]) -> list[str]:
    """A tag for each word: a list, or a text with white space between tags.

    Raises UserError for another number of tags than words, and for an unknown tag.
    """
    found = value.split() if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(tag, str) for tag in found):
        raise UserError(f"prediction {value!r} is not a list of tags")
    if len(found) != len(row["tokens"]):
        raise UserError(f"{len(found)} predicted tags for a sentence of {len(row['tokens'])} words: each needs one")
    for position, tag in enumerate(found, 1):
        if tag not in labels:
            raise UserError(f"predicted tag {tag!r} of word {position} {unknown(tag, labels)}")
    return found


def place_of(text: str, count: int) -> int | None:
    """The place among `count` things that a text names in decimal digits, counted from 0; None if it names none."""
    # Python refuses to read a number of thousands of digits.
    place = int(text) if text.isdecimal() and len(text) < 10 else count
    return place if place < count else None


def check_number(choices: int, expected: int, what: str) -> None:
    """Raise UserError unless a model chose among as many answers as there are."""
    if choices != expected:
        raise UserError(f"the model chose among {choices} answers, but {what} {expected}")
