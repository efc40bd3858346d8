"""JSON lines: one object per line."""

import json
from collections.abc import Iterator
from pathlib import Path

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.json_text import LONGEST, decode, reason
from workflow_scripts.corpora.formats import FormatOptions, Record
from workflow_scripts.corpora.formats.text import lines, with_whole_characters


def records(path: Path, options: FormatOptions, where: str) -> Iterator[tuple[Record, str]]:
    """Each object as a record. Blank lines are skipped.

    Raises UserError, naming file and line, for a line that is not JSON or not an object.
    """
    return with_whole_characters(_objects(path, where), where)


def _objects(path: Path, where: str) -> Iterator[tuple[Record, str]]:
    for number, line in enumerate(lines(path, where), 1):
        if line.isspace():
            continue
        place = f"{where}, line {number}"
        if len(line) > LONGEST:
            raise UserError(f"{place}: an object of more than {LONGEST // 2**20} million characters: split it")
        try:
            record = decode(line)
        except ValueError as error:
            if number == 1 and line.strip() in ("{", "["):
                raise UserError(f"{place}: the JSON spans several lines: set `format: json`") from error
            column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise UserError(f"{place}{column}: not JSON ({reason(error)}): correct or remove the line") from error
        if not isinstance(record, dict):
            remedy = "set `format: json`" if isinstance(record, list) and number == 1 else "each line must be an object"
            raise UserError(f"{place}: not an object, but {line.strip()[:40]!r}: {remedy}")
        yield record, place
