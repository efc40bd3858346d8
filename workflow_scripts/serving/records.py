"""The records of the user's file, one after the other. A record that cannot be read is an error in its place.

`corpora/formats` reads the files that a model is trained and scored on, and refuses a file with a bad record. Here each
record is independent, so a bad one is returned as a `BadRecord` and the next one is read.
"""

import csv
import gzip
import itertools
import json
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.json_text import decode
from workflow_scripts.core.unicode import without_surrogates
from workflow_scripts.corpora.formats import SUFFIXES
from workflow_scripts.corpora.formats.delimited import DELIMITERS, FIELD_LIMIT, header_names, unquoted
from workflow_scripts.corpora.formats.text import BYTE_ORDER_MARK, GZIP

FORMATS = ("csv", "tsv", "json_lines", "text")
LINE_LIMIT = 16 * 2**20  # bytes
MOST_LINES = 1000  # of a quoted record; beyond that, a quote is not closed

Line = tuple[int, bytes | None]
"""The number of a line, and its content without the line break; None for one that is too long."""


@dataclass(frozen=True)
class BadRecord:
    """Why a record cannot be read."""

    problem: str


Placed = tuple[dict[str, Any] | str | BadRecord, str]
"""A record, or a line of plain text, and its place, such as `line 7`."""


def format_by_name(path: Path) -> str:
    """The format by the ending of a file's name; plain text for any ending that is not that of another format.

    Raises UserError for a format that is not read as a stream.
    """
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    name = SUFFIXES.get(ending, "text")
    if name not in FORMATS:
        raise UserError(f"{path}: {ending} files cannot be predicted: export the texts as CSV, TSV or JSON lines")
    return name


def opened(path: Path) -> BinaryIO:
    """The file, decompressed if it is gzip. Raises UserError if it cannot be read."""
    try:
        file = path.open("rb")
        return gzip.open(file) if file.peek(2).startswith(GZIP) else file  # type: ignore[return-value]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def records(
    file: BinaryIO, form: str, where: str, delimiter: str | None, is_header: Callable[[list[str]], bool]
) -> Iterator[Placed]:
    """Each record with its place.

    Args:
        file: what is read, line by line.
        form: a name of `FORMATS`.
        where: what messages call the file.
        delimiter: of CSV; None is a comma. Or of TSV; None is a tab.
        is_header: whether the first row of a table, given here, names the columns; else their names are "1", "2" and
            so on.

    Raises UserError for a header that cannot be read, for what `is_header` refuses, and for a damaged gzip file.
    """
    lines = _lines(file, where)
    if form == "text":
        return _plain(lines)
    if form == "json_lines":
        return _json(lines)
    return _table(lines, form == "tsv", delimiter or ("\t" if form == "tsv" else ","), is_header, where)


def _lines(file: BinaryIO, where: str) -> Iterator[Line]:
    """Lines end at line feeds only. Memory holds one of them, up to `LINE_LIMIT`."""
    try:
        yield from _read(file)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{where} is a damaged gzip file ({error}): make it again") from error


def _read(file: BinaryIO) -> Iterator[Line]:
    for number in itertools.count(1):
        line = file.readline(LINE_LIMIT)
        if not line:
            return
        if len(line) == LINE_LIMIT and not line.endswith(b"\n"):
            while (rest := file.readline(LINE_LIMIT)) and not rest.endswith(b"\n"):
                pass
            yield number, None
            continue
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK.encode())
        yield number, line.removesuffix(b"\n").removesuffix(b"\r")


def _decoded(line: bytes | None) -> str | BadRecord:
    if line is None:
        return BadRecord(f"the line has more than {LINE_LIMIT // 2**20} MiB")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        return BadRecord(f"not UTF-8 at byte {error.start + 1} of the line (0x{line[error.start]:02x})")


def _plain(lines: Iterable[Line]) -> Iterator[Placed]:
    for number, line in lines:
        yield _decoded(line), f"line {number}"


def _json(lines: Iterable[Line]) -> Iterator[Placed]:
    """An object a line; blank lines are skipped."""
    for number, line in lines:
        text = _decoded(line)
        if isinstance(text, BadRecord):
            yield text, f"line {number}"
        elif text.strip():
            yield _object(text), f"line {number}"


def _object(text: str) -> dict[str, Any] | BadRecord:
    try:
        found = decode(text)
    except json.JSONDecodeError as error:
        return BadRecord(f"not JSON ({error.msg} in column {error.colno})")
    except ValueError as error:
        return BadRecord(f"not JSON ({error})")
    return without_surrogates(found) if isinstance(found, dict) else BadRecord("not a JSON object")


def _table(
    lines: Iterator[Line], tabs: bool, delimiter: str, is_header: Callable[[list[str]], bool], where: str
) -> Iterator[Placed]:
    """Each row as a record of texts; rows without any character are skipped."""
    rows = _unquoted_rows(lines, delimiter) if tabs else _quoted_rows(lines, delimiter)
    names: list[str] = []
    for fields, place in rows:
        if isinstance(fields, BadRecord):
            if not names:
                raise UserError(f"{where}, {place}: {fields.problem}")
            yield fields, place
            continue
        if not names:
            other = next((other for other in DELIMITERS if other != delimiter and other in fields[0]), None)
            if len(fields) == 1 and other:
                shown = "$'\\t'" if other == "\t" else f"'{other}'"
                raise UserError(
                    f"{where}, {place}: one column: name the character between columns: --delimiter {shown}"
                )
            if is_header([field.strip() for field in fields]):
                names = header_names(fields, f"{where}, {place}")
                continue
            names = [str(number) for number in range(1, len(fields) + 1)]
        if len(fields) != len(names):
            yield BadRecord(f"{len(fields)} columns, expected {len(names)}"), place
        else:
            yield dict(zip(names, fields, strict=True)), place


def _unquoted_rows(lines: Iterable[Line], delimiter: str) -> Iterator[tuple[list[str] | BadRecord, str]]:
    for number, line in lines:
        text = _decoded(line)
        if isinstance(text, BadRecord):
            yield text, f"line {number}"
        elif text:
            yield [unquoted(field) for field in text.split(delimiter)], f"line {number}"


def _quoted_rows(lines: Iterator[Line], delimiter: str) -> Iterator[tuple[list[str] | BadRecord, str]]:
    """The rows of CSV. After a row with invalid quotes, reading continues at the line after its first line."""
    csv.field_size_limit(FIELD_LIMIT)
    waiting: deque[Line] = deque()

    def following() -> Iterator[Line]:
        while True:
            if waiting:
                yield waiting.popleft()
            elif (line := next(lines, None)) is not None:
                yield line
            else:
                return

    for number, line in (source := following()):
        text = _decoded(line)
        if isinstance(text, BadRecord):
            yield text, f"line {number}"
        elif '"' not in text:
            if text:
                yield text.split(delimiter), f"line {number}"
        else:
            taken: list[Line] = []
            fields = _quoted(text, source, taken, delimiter)
            if isinstance(fields, BadRecord):
                waiting.extendleft(reversed(taken))
                yield fields, f"line {number}"
            else:
                yield fields, f"lines {number} to {taken[-1][0]}" if taken else f"line {number}"


def _quoted(first: str, source: Iterator[Line], taken: list[Line], delimiter: str) -> list[str] | BadRecord:
    """The fields of the row that begins with a line; `taken` gets the further lines that were read."""
    problem: list[BadRecord] = []

    def texts() -> Iterator[str]:
        size = len(first)
        yield first + "\n"
        for line in source:
            taken.append(line)
            text = _decoded(line[1])
            if isinstance(text, BadRecord):
                problem.append(text)
                return
            size += len(text)
            if len(taken) >= MOST_LINES or size > FIELD_LIMIT:
                return
            yield text + "\n"

    try:
        return next(csv.reader(texts(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        reason = problem[0].problem if problem else str(error)
        return BadRecord(f"the quotes of this row are not those of CSV ({reason})")


def in_chunks(items: Iterable[Any], rows: int, size: int, size_of: Callable[[Any], int]) -> Iterator[list[Any]]:
    """Runs of at most `rows` items, which end after the item that brings the sum of their sizes to `size`."""
    chunk: list[Any] = []
    total = 0
    for item in items:
        chunk.append(item)
        total += size_of(item)
        if len(chunk) >= rows or total >= size:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk
