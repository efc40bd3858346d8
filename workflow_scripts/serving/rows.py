"""From the user's records to rows of a task, without gold values."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.json_text import decode
from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.formats import column
from workflow_scripts.kinds import part
from workflow_scripts.kinds.protocol import Row
from workflow_scripts.tuning.finished import FinishedRun


class RowReader:
    """Makes rows of records.

    Attributes:
        fields: the columns that a row needs, in their order.
        in_words: those whose text is cut into words at white space.
        lists: those that hold a list of texts.
        labels: the task's.
    """

    def __init__(self, run: FinishedRun) -> None:
        kind = part(run.settings.kind, "rows")
        self._kind, self.labels = kind, run.settings.labels
        corpus = Corpus.read(run.corpus, f"the record of {run.rows}: settings")
        self._columns: dict[str, Any] = corpus.reading.columns
        sample = _first_row(run)
        self._placeholder = getattr(kind, "placeholder", None)
        self._gold: set[str] = set(self._placeholder(sample, self.labels)) if self._placeholder else set()
        # A column such as `text_pair` is empty in all rows of a task that does not have it.
        self.fields = tuple(name for name in kind.FIELDS if name not in self._gold and sample[name] is not None)
        self.lists = {name for name in self.fields if pa.types.is_list(kind.FIELDS[name])}
        has_words = part(run.settings.kind, "examples").ANSWERS == "words"
        self.in_words = self.lists if has_words else set()

    def is_header(self, first: list[str], where: str) -> bool:
        """Whether the first row of a table names its columns.

        It does not if the task's own dataset has no header, whose columns are named by numbers. Raises UserError if a
        header lacks a column of the task.
        """
        names = [self._columns.get(name) for name in self.fields]
        numbered = all(isinstance(one, int) for name in names for one in (name if isinstance(name, list) else [name]))
        if numbered and not set(self.fields) <= set(first):
            return False
        for name in self.fields:
            self._value(dict.fromkeys(first, ""), name, where)
        return True

    def check_plain(self, where: str) -> None:
        """Raise UserError if one text per line does not make a row."""
        if len(self.fields) > 1:
            raise UserError(
                f"{where}: plain text has one text per line, but a row of this task has {' and '.join(self.fields)}:"
                " use CSV, TSV or JSON lines (--format, or the ending of the file's name)"
            )

    def id_of(self, record: Mapping[str, Any] | str) -> str | None:
        """The id that a record has, if it has one."""
        if isinstance(record, str):
            return None
        for name in ("id", self._columns.get("id")):
            if name is not None and (value := record.get(str(name))) is not None:
                return str(value)
        return None

    def row(self, record: Mapping[str, Any] | str, where: str) -> Row:
        """A row, with placeholder gold values, from a record or from the text of a task with one field.

        Raises UserError for an invalid record.
        """
        if isinstance(record, str):
            record = {self.fields[0]: record}
        values = {name: self._listed(self._value(record, name, where), name, where) for name in self.fields}
        for name, value in values.items():
            if value is None:
                raise UserError(f"{where}: {name} is null")
        gold = self._placeholder(values, self.labels) if self._placeholder else {}
        try:
            row: Row = self._kind.from_record(values | gold, where)
        except UserError as error:
            raise UserError(str(error).removesuffix(": check `columns` of the task")) from error
        for name in self.fields:
            value = row[name]
            if not value or (isinstance(value, str) and not value.strip()):
                raise UserError(f"{where}: {name} is empty")
        if problem := self._kind.problem({"id": "", **row}, self.labels):
            raise UserError(f"{where}: {problem}")
        return row

    def _value(self, record: Mapping[str, Any], name: str, where: str) -> Any:
        """The value under the field's own name, or else under its column in the task's dataset."""
        if name in record or name not in self._columns:
            return column(record, name, where)
        of_row = self._columns[name]
        try:
            if isinstance(of_row, list):
                return [column(record, one, where) for one in of_row]
            return column(record, of_row, where)
        except UserError as error:
            shown = ", ".join(map(str, of_row)) if isinstance(of_row, list) else str(of_row)
            listed = ", ".join(list(map(str, record))[:20]) or "none"
            message = f"{where}: no column {name!r}, nor {shown!r} as in the task's dataset; the columns are {listed}"
            raise UserError(message) from error

    def _listed(self, value: Any, name: str, where: str) -> Any:
        """A text in a column of lists as the list that it spells: JSON, or words between white space."""
        if name not in self.lists or not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                found = decode(value)
            except ValueError:
                found = None
            if isinstance(found, list):
                return found
        if name in self.in_words:
            return value.split()
        raise UserError(f'{where}: {name} is a text, not a list: write a list in JSON, such as ["one", "two"]')


def _first_row(run: FinishedRun) -> Row:
    """The first row of the validation set, which shows the columns of the task."""
    try:
        with pq.ParquetFile(run.rows) as file:
            row: Row = next(file.iter_batches(batch_size=1)).to_pylist()[0]
            return row
    except (OSError, pa.ArrowInvalid, StopIteration) as error:
        raise UserError(f"{run.rows} cannot be read ({error}): run the workflow again") from error
