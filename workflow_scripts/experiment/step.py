"""What every step does the same way: its command line, its log, its errors, the way it writes files.

A step is a module with `main(arguments)`, ended by

    if __name__ == "__main__":
        run(main, parser())
"""

import argparse
import contextlib
import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from workflow_scripts.experiment.errors import Interrupted, UserError
from workflow_scripts.experiment.faults import explain
from workflow_scripts.experiment.visible import visible


def step_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every step takes; the module's docstring is the help text."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=json.loads, default={}, metavar="JSON", help="the step's settings")
    parser.add_argument("--log", type=Path, metavar="FILE", help="where plain log lines go besides the terminal")
    return parser


def run(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Run a step from the command line: exit with status 0, or 1 after a line that starts with `error:`.

    A step that was asked to stop and has saved its state exits with `Interrupted.status`, one that Ctrl-C has ended
    without a state with 130.
    """
    arguments = parser.parse_args()
    try:
        _start_log(arguments.log)
        main(arguments)
    except UserError as error:
        _tell(str(error))
        sys.exit(1)
    except Interrupted as interruption:
        logging.getLogger("crossprompt").warning("interrupted: %s", interruption)
        _leave(interruption.status)
    except KeyboardInterrupt:
        logging.getLogger("crossprompt").warning("interrupted")
        _leave(130)  # what a shell says of a program that Ctrl-C has ended
    except Exception as error:
        message = explain(error)
        if message:
            _tell(message)
        else:
            # A defect of ours: the log must hold the whole story.
            logging.getLogger("crossprompt").exception("error: this is not expected; the traceback follows")
        sys.exit(1)
    _leave(0)


def _leave(status: int) -> NoReturn:
    """End the process, all of whose files are written and closed.

    PyTorch is not taken apart, which costs 0.5 s of a 3.8 s prediction, and in which a second SIGTERM would kill.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _tell(message: str) -> None:
    """Errors of the user's or the machine's, a line each."""
    for line in message.split("\n"):
        logging.getLogger("crossprompt").error("error: %s", line)


def _start_log(file: Path | None) -> None:
    """Warnings and errors to the terminal, everything to the log file."""
    logging.raiseExceptions = False  # a log on a full disk must not hide the message that tells so
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setLevel(logging.WARNING)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, mode="w", encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(_VisibleFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)


class _VisibleFormatter(logging.Formatter):
    """Log lines quote data: what a terminal would obey becomes an escape."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within the block `path` is being written: what the machine refuses is told with its name. Raises UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = explain(error, path)
        if message is None:
            raise
        raise UserError(message) from error


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name to write to, renamed to `path` when the block ends well: a reader never sees half a file.

    Raises UserError that names `path` when the machine does not let it be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with naming(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recorded_files(records: Iterable[Path], file_of: Callable[[Path, str], Path]) -> dict[str, Path]:
    """By language, the files of records that hold the checksum of each.

    `file_of` is `names.predictions_file` or `names.vectors_file`. Raises UserError for a file that is not its record's.
    """
    files = {}
    for record in records:
        for language, checksum in read_json(record).items():
            file = file_of(record, language)
            if not file.is_file() or sha256(file) != checksum:
                raise UserError(
                    f"{file} is not the file that {record} tells of: delete {record} and run the workflow again"
                )
            files[language] = file
    return files


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs: sorted keys, indented, Unicode as it is."""
    with written(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON. Raises UserError that names the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): run the workflow again") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it and run the workflow again") from error
