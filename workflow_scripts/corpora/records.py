"""From the records of files to rows: columns are mapped, values spelled as the task spells them, ids given."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.formats import FormatOptions, class_names, column, format_of, named, records
from workflow_scripts.corpora.formats.tags import problem, repaired
from workflow_scripts.corpora.rows import PlacedRow
from workflow_scripts.kinds import part
from workflow_scripts.kinds.protocol import Row

SHOWN = 10  # maximum number of values in a message
GOLD = {"label", "tags", "score", "answers"}  # columns that a stripped test set lacks


def rows_of_files(corpus: Corpus, files: Sequence[tuple[Path, str]]) -> Iterator[PlacedRow]:
    """Each row of some files, with its place and its record. `files`: paths, and their names in messages.

    Without an id column a row's id is its number in all files, after the language unless the corpus is parallel.
    Numbers count every record that `where` keeps, so later exclusions do not change them.
    """
    reading, kind = corpus.reading, part(corpus.kind, "rows")
    wanted = {name: corpus.filled(pattern) for name, pattern in reading.where.items()}
    others: dict[str, set[str]] = {name: set() for name in wanted}
    number = 0
    for path, shown in files:
        options = options_of(corpus, path)
        names = class_names(path, options.format, shown)
        for record, where in records(path, options, shown):
            if wanted and not _is_wanted(record, wanted, others, where):
                continue
            number += 1
            values = {name: _value(record, name, corpus, names, where) for name in reading.columns}
            row = kind.from_record(values, where)
            given = values.get("id")
            unnamed = str(number) if corpus.parallel else f"{corpus.language}-{number}"
            row["id"] = unnamed if given is None else str(given)
            if reading.group is not None:
                row["group"] = str(column(record, reading.group, where))
            yield PlacedRow(row, where, record, _convert_tags(row, corpus, where))
    if not number:
        # The last one: its values are from records that matched all the others.
        name, pattern = next((name, wanted[name]) for name in reversed(wanted) if others[name])
        found = sorted(others[name])
        more = ", ..." if len(found) == SHOWN else ""
        raise UserError(
            f"{', '.join(shown for _, shown in files)}: no record of {corpus.name}: `where` keeps those whose column"
            f" {name!r} is {pattern!r}; its values are {', '.join(map(repr, found))}{more}"
        )


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


def _is_wanted(
    record: Mapping[str, Any], wanted: Mapping[str, str], others: Mapping[str, set[str]], where: str
) -> bool:
    """Whether each column matches its pattern. `others` gets a few values of the first that does not."""
    for name, pattern in wanted.items():
        value = str(column(record, name, where))
        if not fnmatchcase(value, pattern):
            if len(others[name]) < SHOWN:
                others[name].add(value)
            return False
    return True


def _value(record: Mapping[str, Any], name: str, corpus: Corpus, names: Mapping[str, Sequence[str]], where: str) -> Any:
    """The value of a row's column, spelled as the task spells it. `names` are those of class labels, by column."""
    of_row = corpus.reading.columns[name]
    if name in GOLD and corpus.split != "train" and isinstance(of_row, str | int):
        _check_gold(record, of_row, corpus, where)
    if isinstance(of_row, list):
        return [_spelled(column(record, one, where), name, corpus, where) for one in of_row]
    value = column(record, of_row, where)
    # A kind without labels, such as multiple choice, counts: it needs the number.
    if str(of_row) in names and corpus.labels and value is not None:
        value = named(value, names[str(of_row)], where)
    return _spelled(value, name, corpus, where)


def _check_gold(record: Mapping[str, Any], of_row: str | int, corpus: Corpus, where: str) -> None:
    """Refuse a record without its label, and name the usual reason."""
    try:
        column(record, of_row, where)
    except UserError as error:
        raise UserError(
            f"{error}; if this {corpus.split} set was stripped of its labels, as XTREME's scripts do, use the labelled"
            " file of the dataset's own release"
        ) from error


def _spelled(value: Any, name: str, corpus: Corpus, where: str) -> Any:
    if isinstance(value, list):
        return [_spelled(item, name, corpus, where) for item in value]
    if isinstance(value, bool):
        value = str(value).lower()
    spellings = corpus.reading.values.get(name, {})
    if spellings and isinstance(value, (str, int)):
        value = spellings.get(str(value).strip(), value)
    if name == "label" and value is not None:
        return _label(value, corpus, where)
    return str(value) if name == "tags" and isinstance(value, int) else value


def _label(value: Any, corpus: Corpus, where: str) -> Any:
    """A label by its name, or by its number for a kind that counts. Files have names, or numbers from `first_label`.

    Where labels are numbers themselves, such as the stars of a review, a number in a file is always a name.
    """
    labels, first = corpus.labels, corpus.reading.first_label
    text = value.strip() if isinstance(value, str) else str(value)
    if _has_numbered_labels(corpus.kind):
        place = _whole_number(text)
        return labels.index(text) if text in labels else value if place is None else place - first
    if text in labels or any(_whole_number(label) is not None for label in labels):
        return text
    place = _whole_number(text)
    if place is None:
        return text
    if not first <= place < first + len(labels):
        raise UserError(
            f"{where}: label {value} is not one of {first} to {first + len(labels) - 1}, the numbers of"
            f" {', '.join(labels)}: set `first_label` to the number of the first one"
        )
    return labels[place - first]


@cache
def _has_numbered_labels(kind: str) -> bool:
    """Whether the label of a row is a number, such as the place of the correct choice."""
    return pa.types.is_integer(part(kind, "rows").FIELDS["label"])


def _whole_number(text: str) -> int | None:
    """The whole number that a text spells, such as `3` or `3.0`."""
    try:
        return int(float(text)) if float(text).is_integer() else None
    except (ValueError, OverflowError):
        return None


def _convert_tags(row: Row, corpus: Corpus, where: str) -> int:
    """Convert the tags of a row to IOB2, if the source has another scheme or is to be repaired: returns how many were.

    Raises UserError for tags that are not valid in the scheme, unless they are to be repaired.
    """
    reading = corpus.reading
    if "tags" not in row or (reading.scheme == "iob2" and not reading.repair):
        return 0
    if not reading.repair and (what := problem(row["tags"], reading.scheme)):
        raise UserError(
            f"{where}: {what}, which is not valid {reading.scheme.upper()}: correct the tags, state another `scheme`,"
            " or set `repair: true`"
        )
    row["tags"], number = repaired(row["tags"], reading.scheme)
    return number
