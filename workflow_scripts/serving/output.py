"""Predictions as JSON lines or CSV, in a file that a killed command continues, or on standard output.

While predictions are written, they are in `.NAME.partial`, beside NAME. `.NAME.partial.json` says how far that file is
complete and what it was made from. At the end the first is renamed, and the second is removed.
"""

import csv
import fcntl
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import naming, write_json

COLUMNS = ("row", "id", "prediction", "probability", "probabilities", "start", "end", "error")
FORMS = {".jsonl": "json_lines", ".ndjson": "json_lines", ".csv": "csv"}
Result = dict[str, Any]
"""The keys of `COLUMNS` that a row has."""


def form_of(path: Path) -> str:
    """The form by the ending of a file's name. Raises UserError for any other ending."""
    if path.suffix.lower() not in FORMS:
        raise UserError(f"--to {path}: the name must end in {', '.join(FORMS)}, which gives the form")
    return FORMS[path.suffix.lower()]


def heading(form: str) -> bytes:
    """What comes before the first row."""
    return (",".join(COLUMNS) + "\n").encode() if form == "csv" else b""


def encoded(results: Iterable[Result], form: str) -> bytes:
    """The rows in a form. In CSV, what is no text or number is JSON."""
    if form == "json_lines":
        return "".join(json.dumps(result, ensure_ascii=False) + "\n" for result in results).encode()
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    for result in results:
        table.writerow([_cell(result.get(name)) for name in COLUMNS])
    return lines.getvalue().encode()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


class Partial:
    """A file that grows by whole chunks and can be continued.

    Args:
        path: the finished file.
        form: "json_lines" or "csv".
        key: everything that the content depends on, as JSON. A partial file with a different key is overwritten.

    Attributes:
        rows: how many rows are complete.
        errors: how many of these are errors.
        state: what the first process recorded and later ones must use as well.
    """

    def __init__(self, path: Path, form: str, key: dict[str, Any]) -> None:
        self._path, self._form, self._key = path, form, key
        self._partial = path.with_name(f".{path.name}.partial")
        self._record = path.with_name(f".{path.name}.partial.json")
        self.rows, self.errors, self.state = 0, 0, dict[str, Any]()
        self._file: BinaryIO

    @contextmanager
    def open(self) -> Iterator["Partial"]:
        """Continue or begin the file; at the end of the block it gets its name.

        If the block fails, the partial file stays. Raises UserError if another process writes it.
        """
        with naming(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
        with self._partial.open("r+b") as self._file:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"{self._path} is being written by another process: wait, or name another --to"
                ) from error
            except OSError:
                pass  # a disk without file locks
            size = self._continued()
            with naming(self._path):
                self._file.truncate(size)
                self._file.seek(size)
                if not size:
                    self._file.write(heading(self._form))
            yield self
            with naming(self._path):
                self._file.flush()
                os.fsync(self._file.fileno())
                self._partial.replace(self._path)
                self._record.unlink(missing_ok=True)

    def _continued(self) -> int:
        """How many bytes of the partial file are complete."""
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
            fits = record["key"] == self._key and record["bytes"] <= os.fstat(self._file.fileno()).st_size
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        if not fits:
            return 0
        self.rows, self.errors, self.state = record["rows"], record["errors"], record["state"]
        size: int = record["bytes"]
        return size

    def add(self, results: list[Result]) -> None:
        """Write a chunk, and note that it is complete."""
        with naming(self._path):
            self._file.write(encoded(results, self._form))
            self._file.flush()
            os.fsync(self._file.fileno())
            self.rows += len(results)
            self.errors += sum("error" in result for result in results)
            noted = {"key": self._key, "rows": self.rows, "errors": self.errors, "bytes": self._file.tell()}
            write_json(self._record, noted | {"state": self.state})


class Printed:
    """Standard output instead of a file; each chunk is flushed.

    Attributes: as in `Partial`.
    """

    def __init__(self, form: str) -> None:
        self._form = form
        self.rows, self.errors, self.state = 0, 0, dict[str, Any]()

    @contextmanager
    def open(self) -> Iterator["Printed"]:
        """Write the heading."""
        sys.stdout.buffer.write(heading(self._form))
        yield self

    def add(self, results: list[Result]) -> None:
        """Print a chunk."""
        sys.stdout.buffer.write(encoded(results, self._form))
        sys.stdout.buffer.flush()
        self.rows += len(results)
        self.errors += sum("error" in result for result in results)
