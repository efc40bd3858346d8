"""UTF-8 text of files, by line or by chunk, decompressed if it is gzip, with errors that name byte and line."""

import codecs
import contextlib
import gzip
import io
import logging
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.unicode import without_surrogates

logger = logging.getLogger(__name__)

BYTE_ORDER_MARK = "\ufeff"
GZIP = b"\x1f\x8b"
# The first bytes of files that are mistaken for text, and what to do about it.
NOT_TEXT = {
    b"PAR1": "is a parquet file: set `format: parquet`",
    b"PK\x03\x04": "is a zip archive or a spreadsheet: unpack it, or export it as CSV with UTF-8",
    b"\xff\xfe": "is UTF-16: save it as UTF-8",
    b"\xfe\xff": "is UTF-16: save it as UTF-8",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file: run `git lfs pull` in its repository",
    b"<!doctype html": "is an HTML page, not data: its address does not lead to the file",
}
LINE_LIMIT = 64 * 2**20  # bytes
CHUNK = 2**20  # bytes
MOST_EXPANSION = 200  # times its size that a compressed file may hold; text is rarely more than 20 times
SMALL = 16 * 2**20  # bytes that any file may hold


def lines(path: Path, where: str) -> Iterator[str]:
    """Each line with its line break. Lines end at line feeds only: `str.splitlines` would split inside a text.

    Raises UserError for what is not UTF-8 text, a damaged gzip file, and a line of more than 64 MiB.
    """
    offset = 0
    with _opened(path, where) as file:
        for number, line in enumerate(iter(lambda: file.readline(LINE_LIMIT), b""), 1):
            if len(line) == LINE_LIMIT:
                raise UserError(
                    f"{where}, line {number}: the line has more than {LINE_LIMIT // 2**20} MiB: is it the right"
                    " format? JSON on a single line is `format: json`"
                )
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise _not_utf8(where, number, offset + error.start, line[error.start]) from error
            offset += len(line)
            check_expansion(path, offset, where)
            yield text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text


def chunks(path: Path, where: str) -> Iterator[str]:
    """The text in pieces of about 1 MiB; where they end has no meaning. Raises UserError as `lines` does."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, number, first = 0, 1, True
    with _opened(path, where) as file:
        while True:
            chunk = file.read(CHUNK)
            pending = decoder.getstate()[0]  # the beginning of a character that the last chunk cut in two
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                line = number + (pending + chunk).count(b"\n", 0, error.start)
                raise _not_utf8(
                    where, line, offset - len(pending) + error.start, (pending + chunk)[error.start]
                ) from error
            offset += len(chunk)
            check_expansion(path, offset, where)
            number += chunk.count(b"\n")
            if first and text:
                text, first = text.removeprefix(BYTE_ORDER_MARK), False
            yield text
            if not chunk:
                return


def check_expansion(path: Path, size: int, where: str) -> None:
    """Raise UserError if a file expands so much that it must be meant to fill memory or a disk."""
    if size > SMALL and size > MOST_EXPANSION * path.stat().st_size:
        raise UserError(
            f"{where} holds more than {MOST_EXPANSION} times its size: if you trust it, decompress it or write it again"
        )


@contextlib.contextmanager
def _opened(path: Path, where: str) -> Iterator[io.BufferedIOBase]:
    with path.open("rb") as file:
        if not file.peek().startswith(GZIP):
            _check_start(file.peek(), where)
            if path.suffix == ".gz":
                raise UserError(f"{where} is not a gzip file, though its name ends in .gz: fetch it again or rename it")
            yield file
            return
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                _check_start(unpacked.peek(64), where)
                yield unpacked
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{where} is a damaged gzip file ({error}): fetch it again") from error


def _check_start(start: bytes, where: str) -> None:
    for signature, what in NOT_TEXT.items():
        if start[: len(signature)].lower() == signature.lower():
            raise UserError(f"{where} {what}")
    if b"\0" in start[:64]:
        raise UserError(f"{where} is not UTF-8 text: it has zero bytes at its beginning")


def _not_utf8(where: str, line: int, byte: int, value: int) -> UserError:
    return UserError(
        f"{where}, line {line}: not UTF-8 at byte {byte} (0x{value:02x}): save the file as UTF-8, for example with"
        " iconv -f WINDOWS-1252 -t UTF-8"
    )


def with_whole_characters(records: Iterable[tuple[Any, str]], where: str) -> Iterator[tuple[Any, str]]:
    r"""Replace each lone surrogate by U+FFFD, and log how many records have one.

    JSON can contain half of a surrogate pair (`\ud83d` of an emoji that was cut in two), UTF-8 cannot. Positions in
    the text stay right: both are one code point.
    """
    first, count, total = "", 0, 0
    try:
        for record, place in records:
            total += 1
            whole = without_surrogates(record)
            if whole is not record:
                place = without_surrogates(place)
                first, count = first or place, count + 1
            yield whole, place
    finally:
        if count:
            logger.warning(
                "%s: half a character (a lone surrogate) was replaced by U+FFFD in %d of %d records, the first: %s",
                *(where, count, total, first),
            )
