"""Answers of a file with predictions, matched with the test rows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.predictions import NotAnAnswerError
from workflow_scripts.kinds.protocol import Row


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        id: of the row.
        where: its place in the file, for messages.
        of_row: the prediction for the row; raises UserError for a wrong value, NotAnAnswerError for an invalid answer.
    """

    id: str
    where: str
    of_row: Callable[[Row], Any]


def identity(value: Any, where: str) -> str:
    """The id of a row as text; a whole number is its digits. Raises UserError for another type."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"{where}: the id is {value!r}, not a text or a whole number")
    return str(value)


def matched(
    found: Iterable[Answer], rows: Sequence[Row], file: Path, rows_file: Path, accept_unknown: bool
) -> tuple[dict[str, Any], int]:
    """The prediction of every row by its id, in the order of the rows, and how many are not valid answers.

    Args:
        found: the answers.
        rows: the test rows.
        file, rows_file: where both come from, for messages.
        accept_unknown: whether an invalid answer becomes None, which is wrong for every row; else it is refused.

    Raises UserError, naming file and record: an id that no row has or that is there twice, a wrong value, and rows
    without a prediction.
    """
    by_id = {row["id"]: row for row in rows}
    predictions: dict[str, Any] = {}
    places: dict[str, str] = {}
    unknown = 0
    for answer in found:
        if answer.id not in by_id:
            raise UserError(
                f"{answer.where}: id {answer.id!r} is not among the {len(rows)} test rows; their ids are in {rows_file}"
                f" (such as {next(iter(by_id))!r})"
            )
        if answer.id in predictions:
            raise UserError(f"{answer.where}: id {answer.id!r} occurs twice, first in {places[answer.id]}: delete one")
        try:
            predictions[answer.id] = answer.of_row(by_id[answer.id])
        except NotAnAnswerError as error:
            if not accept_unknown:
                raise UserError(f"{answer.where}: {error}; or count such answers as wrong: `unknown: wrong`") from error
            predictions[answer.id] = None
            unknown += 1
        except UserError as error:
            raise UserError(f"{answer.where}: {error}") from error
        places[answer.id] = answer.where
    missing = [identity for identity in by_id if identity not in predictions]
    if missing:
        raise UserError(
            f"{file}: {len(missing)} of {len(rows)} test rows have no prediction, the first is {missing[0]!r}: predict"
            f" every row of {rows_file}"
        )
    return {identity: predictions[identity] for identity in by_id}, unknown
