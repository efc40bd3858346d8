"""JSON: a list of records, or an object that has the list under one of its keys, such as `data`.

The standard library reads a JSON file only as a whole, which takes several times the file's size. This module finds
the list in the text and has the standard library decode one record at a time.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.json_text import LONGEST, decode_at
from workflow_scripts.corpora.formats import FormatOptions, Record
from workflow_scripts.corpora.formats.text import chunks, with_whole_characters

NEAR_THE_END = 16  # characters: a literal or an escape that is cut by the end of the text is shorter


def records(path: Path, options: FormatOptions, where: str) -> Iterator[tuple[Record, str]]:
    """Each object of the list as a record; its place is `reviews.json, record 7`, counted from 1.

    Raises UserError, naming file and line or record, for a file that is not JSON or has no list of objects.
    """
    return with_whole_characters(objects(path, where), where)


def objects(path: Path, where: str) -> Iterator[tuple[Record, str]]:
    """Like `records`, with lone surrogates as they are."""
    document = _Document(path, where)
    if document.next() == "[":
        yield from _numbered(document, where)
    elif document.next() == "{":
        if document.is_json_lines():
            raise UserError(f"{where}: an object a line: set `format: json_lines`")
        yield from _in_object(document, where)
    else:
        document.value()  # Raises an error unless the file is JSON.
        raise UserError(f"{where}: not a list of objects, nor an object that has one under a key")
    document.check_end()


def _numbered(document: "_Document", where: str) -> Iterator[tuple[Record, str]]:
    for number, item in enumerate(document.items("[", "]"), 1):
        if not isinstance(item, dict):
            raise UserError(f"{where}, record {number}: not an object, but {json.dumps(item)[:40]}")
        yield item, f"{where}, record {number}"


def _in_object(document: "_Document", where: str) -> Iterator[tuple[Record, str]]:
    """The records of the first key that has a list of objects. Another such key is an error."""
    found, keys = "", []
    for key in document.keys_of_object():
        keys.append(key)
        if document.next() != "[" or not document.is_list_of_objects():
            document.value()
        elif found:
            raise UserError(f"{where}: lists of objects under both {found!r} and {key!r}: keep one of them")
        else:
            found = key
            yield from _numbered(document, where)
    if not found:
        document.check_end()
        raise UserError(f"{where}: no list of objects under any of its keys ({', '.join(keys) or 'it has none'})")


class _Document:
    """The text of a JSON file; only the part that is not yet decoded is in memory."""

    def __init__(self, path: Path, where: str):
        self.at = 0
        self._text = ""
        self._line = 1  # at the beginning of `_text`
        self._chunks = chunks(path, where)
        self._where = where

    def next(self) -> str:
        """Move `at` to the next character that is not white space and return it; "" at the end."""
        while True:
            rest = len(self._text)
            while self.at < rest and self._text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < rest:
                return self._text[self.at]
            if not self._more():
                return ""

    def value(self) -> Any:
        """Decode the value that begins here, and move past it."""
        self.next()
        while True:
            try:
                value, end = decode_at(self._text, self.at)
            except json.JSONDecodeError as error:
                # Cut off by the end of the text? Of strings, the error states where they begin.
                cut = error.msg.startswith("Unterminated string") or error.pos + NEAR_THE_END > len(self._text)
                if cut and len(self._text) - self.at > LONGEST:
                    raise self.error(f"a value of more than {LONGEST // 2**20} million characters", self.at) from error
                if not (cut and self._more()):
                    raise self.error(error.msg, error.pos) from error
                continue
            except ValueError as error:
                raise self.error(str(error), self.at) from error
            # A number at the end of the text may be the beginning of another one: `1` of `12`, of `1.2`, of `1e-2`.
            if isinstance(value, int | float) and len(self._text) - end < NEAR_THE_END and self._more():
                continue
            self.at = end
            return value

    def items(self, start: str, end: str) -> Iterator[Any]:
        """The values between brackets and commas."""
        for _ in self._places(start, end):
            yield self.value()

    def keys_of_object(self) -> Iterator[str]:
        """The keys of an object. The caller decodes the value after each."""
        for _ in self._places("{", "}"):
            if self.next() != '"':
                raise self.error("Expecting property name enclosed in double quotes", self.at)
            key = self.value()
            self._take(":")
            yield key

    def is_list_of_objects(self) -> bool:
        """Whether the list that begins here has an object first."""
        while not (inside := self._text[self.at + 1 :].lstrip()) and self._more():
            pass
        return inside.startswith("{")

    def is_json_lines(self) -> bool:
        """Whether the file has an object in its first line and another one after it, which no JSON document can."""
        line, _, rest = self._text[self.at :].partition("\n")
        return line.rstrip().endswith("}") and rest.lstrip().startswith("{")

    def check_end(self) -> None:
        """Raise an error unless all of the file is decoded."""
        if self.next():
            raise self.error("more text after the end of the JSON", self.at)

    def error(self, reason: str, place: int) -> UserError:
        """The error at a place in the text."""
        line = self._line + self._text.count("\n", 0, place)
        return UserError(f"{self._where}, line {line}: not JSON ({reason}): fetch the file again, or correct it")

    def _places(self, start: str, end: str) -> Iterator[None]:
        self._take(start)
        if self.next() == end:
            self.at += 1
            return
        while True:
            yield
            if self.next() == end:
                self.at += 1
                return
            self._take(",")

    def _take(self, expected: str) -> None:
        if self.next() != expected:
            raise self.error(f"Expecting {expected!r}", self.at)
        self.at += 1

    def _more(self) -> bool:
        """Double the undecoded text, by at least a chunk, and discard what is decoded. False at the end."""
        waiting = len(self._text) - self.at
        pieces, size = [], 0
        for piece in self._chunks:
            pieces.append(piece)
            size += len(piece)
            if size >= max(waiting, 1):
                break
        if not size:
            return False
        self._line += self._text.count("\n", 0, self.at)
        self._text = self._text[self.at :] + "".join(pieces)
        self.at = 0
        return True
