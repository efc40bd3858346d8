"""CSV and TSV: a record per line or, with quoting, per row, which may extend over several lines."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.formats import FormatOptions, Record
from workflow_scripts.corpora.formats.text import lines

FIELD_LIMIT = 16 * 2**20  # characters; the csv module's own limit, 128 KiB, is shorter than some documents
DELIMITERS = ("\t", ";", ",", "|")  # that occur in files with the suffixes .csv and .tsv

Row = tuple[list[str], int, int]
"""The fields of a row, and the numbers of its first and last line."""


def records(path: Path, options: FormatOptions, where: str) -> Iterator[tuple[Record, str]]:
    """Each row as a record of texts. Rows without any character are skipped.

    Raises UserError, naming file and line, for a row with more or fewer columns than the first one, a header that has
    a name twice, and quotes that break the csv module's rules.
    """
    tabs = options.format == "tsv"
    delimiter = options.delimiter or ("\t" if tabs else ",")
    quoted = not tabs if options.quoted is None else options.quoted
    rows = _quoted_rows(path, delimiter, where) if quoted else _plain_rows(path, delimiter, where)
    names: list[str] = []
    for fields, first, last in rows:
        if not names:
            if options.header is False:
                names = [str(number) for number in range(1, len(fields) + 1)]
            else:
                _check_delimiter(fields, delimiter, f"{where}, line {first}")
                names = header_names(fields, f"{where}, line {first}")
                continue
        if len(fields) != len(names):
            place = f"line {first}" if first == last else f"lines {first} to {last}"
            raise UserError(
                f"{where}, {place}: {_count(fields)}, expected {len(names)} ({_shown(names)}): {_remedy(quoted)}"
            )
        yield dict(zip(names, fields, strict=True)), f"{where}, line {first}"


def header_names(fields: Sequence[str], where: str) -> list[str]:
    """The names of the columns, without spaces around them; an empty one becomes its number, from "1".

    Raises UserError if two columns have the same name.
    """
    names = [field.strip() or str(number) for number, field in enumerate(fields, 1)]
    first: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if (before := first.setdefault(name, number)) < number:
            raise UserError(
                f"{where}: columns {before} and {number} of the header are both named {name!r}: rename one of them, or"
                " set `header: false` if this line is not a header"
            )
    return names


def unquoted(field: str) -> str:
    """The text of a field as it was before Python's `csv.writer` wrote it.

    `csv.writer` puts quotes around a field that contains quotes, and doubles those inside. Files that are read as
    unquoted may also have bare quotes, so only fields that must come from `csv.writer` are changed: a quote at both
    ends, and at least one inside, all of them doubled.
    """
    inside = field[1:-1]
    if len(field) > 1 and field[0] == field[-1] == '"' and '"' in inside and '"' not in inside.replace('""', ""):
        return inside.replace('""', '"')
    return field


def _plain_rows(path: Path, delimiter: str, where: str) -> Iterator[Row]:
    for number, line in enumerate(lines(path, where), 1):
        if line := line.rstrip("\r\n"):
            fields = line.split(delimiter)
            yield [unquoted(field) for field in fields] if '"' in line else fields, number, number


def _quoted_rows(path: Path, delimiter: str, where: str) -> Iterator[Row]:
    csv.field_size_limit(FIELD_LIMIT)
    reader = csv.reader(lines(path, where), delimiter=delimiter, strict=True)
    first = 1
    try:
        for fields in reader:
            if fields:
                yield fields, first, reader.line_num
            first = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{where}, line {first}: the quotes of this row are not those of CSV ({error}): double each quote inside"
            " a quoted field, or set `quoted: false` if quotes are part of the text"
        ) from error


def _check_delimiter(fields: list[str], delimiter: str, where: str) -> None:
    """Refuse a header of a single column that contains another delimiter."""
    if len(fields) == 1:
        other = next((other for other in DELIMITERS if other != delimiter and other in fields[0]), None)
        if other:
            raise UserError(f"{where}: one column with {delimiter!r} as delimiter: set `delimiter: {_yaml(other)}`")


def _yaml(delimiter: str) -> str:
    return '"\\t"' if delimiter == "\t" else f'"{delimiter}"'


def _count(fields: list[str]) -> str:
    return f"{len(fields)} column{'s' * (len(fields) != 1)}"


def _shown(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _remedy(is_quoted: bool) -> str:
    if is_quoted:
        return "put quotes around texts with a delimiter, or set `quoted: false` if quotes are part of the text"
    return "remove delimiters from texts, or set `quoted: true` if texts are in quotes"
