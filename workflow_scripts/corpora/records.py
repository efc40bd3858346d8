"""From the records of files to rows: columns are mapped, values spelled as the task spells them, ids given."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.formats import FormatOptions, column, format_of, records
from workflow_scripts.corpora.rows import PlacedRow
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.kinds import part


def rows_of_files(corpus: Corpus, files: Sequence[tuple[Path, str]]) -> Iterator[PlacedRow]:
    """Each row of some files, with its place and its record. `files`: paths, and what a reader calls them.

    Without an id column a row's id is its number in all files, after the language unless the corpus is parallel.
    Numbers count every record that `where` keeps, so that they are the same whatever is left out later.
    """
    reading, kind = corpus.reading, part(corpus.kind, "rows")
    wanted = {name: pattern.replace("{language}", corpus.code) for name, pattern in reading.where.items()}
    number = 0
    for path, shown in files:
        for record, where in records(path, options_of(corpus, path), shown):
            if any(not fnmatchcase(str(column(record, name, where)), pattern) for name, pattern in wanted.items()):
                continue
            number += 1
            values = {name: _value(record, name, corpus, where) for name in reading.columns}
            row = kind.from_record(values, where)
            given = values.get("id")
            row["id"] = (
                str(given) if given is not None else str(number) if corpus.parallel else f"{corpus.language}-{number}"
            )
            if reading.group is not None:
                row["group"] = str(column(record, reading.group, where))
            yield row, where, record


def options_of(corpus: Corpus, path: Path) -> FormatOptions:
    """How a file is read."""
    reading = corpus.reading
    names = [name for of_row in reading.columns.values() for name in (of_row if isinstance(of_row, list) else [of_row])]
    form, header = reading.format or format_of(path), reading.header
    if header is None and form in ("csv", "tsv"):
        header = not names or any(not isinstance(name, int) for name in names)
    return FormatOptions(
        format=form,
        header=header,
        quoted=reading.quoted,
        delimiter=reading.delimiter,
        comments=reading.comments,
    )


def _value(record: dict[str, Any], name: str, corpus: Corpus, where: str) -> Any:
    """The value of a row's column, spelled as the task spells it."""
    reading = corpus.reading
    of_row = reading.columns[name]
    value = (
        [column(record, one, where) for one in of_row] if isinstance(of_row, list) else column(record, of_row, where)
    )
    spellings = reading.values.get(name, {})
    if name == "label":
        return _label(spellings.get(str(value).strip(), value), corpus, where)
    if isinstance(value, list):
        return [spellings.get(item, item) if isinstance(item, str) else item for item in value]
    return spellings.get(value, value) if isinstance(value, str) else value


def _label(value: Any, corpus: Corpus, where: str) -> Any:
    """A label by its name: files have names, or numbers that count from `first_label`."""
    if not corpus.labels:
        return _number(value, corpus.reading.first_label)
    text = value.strip() if isinstance(value, str) else str(value)
    if text in corpus.labels:
        return text
    place = _number(text, corpus.reading.first_label)
    if isinstance(place, int):
        if 0 <= place < len(corpus.labels):
            return corpus.labels[place]
        raise UserError(
            f"{where}: label {value} is not one of {corpus.reading.first_label} to"
            f" {corpus.reading.first_label + len(corpus.labels) - 1}, the numbers of {', '.join(corpus.labels)}"
        )
    return text


def _number(value: Any, first: int) -> Any:
    """A whole number, counted from 0; any other value as it is."""
    if isinstance(value, bool):
        return value
    try:
        return int(value) - first if float(value) == int(value) else value
    except (TypeError, ValueError):
        return value
