"""What every step does the same way: its command line, its log, its errors, the lineage of its outputs.

A step is a module with `main(arguments)`, ended by

    if __name__ == "__main__":
        run(main, parser())

Its parser gives the files that it reads and writes the types `input_file` and `output_file`. `main` returns the input
files that it finds by itself, or nothing.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from workflow_scripts.experiment.errors import Interrupted, UserError
from workflow_scripts.experiment.faults import explain
from workflow_scripts.experiment.files import read_json, sha256
from workflow_scripts.experiment.lineage import recorded
from workflow_scripts.experiment.visible import visible


def input_file(text: str) -> Path:
    """The type of an argument that is a file which the step reads; it enters the lineage of the outputs."""
    return Path(text)


def output_file(text: str) -> Path:
    """The type of an argument that is a file which the step writes; its lineage is recorded beside it."""
    return Path(text)


def files_of(parser: argparse.ArgumentParser, arguments: argparse.Namespace, kind: Callable[[str], Path]) -> list[Path]:
    """The files among the arguments that have the type `input_file` or `output_file`."""
    given = [getattr(arguments, action.dest) for action in parser._actions if action.type is kind]
    return [file for value in given if value for file in (value if isinstance(value, list) else [value])]


def step_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every step takes; the module's docstring is the help text."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=json.loads, default={}, metavar="JSON", help="the step's settings")
    parser.add_argument("--log", type=Path, metavar="FILE", help="where plain log lines go besides the terminal")
    return parser


def run(main: Callable[[argparse.Namespace], Iterable[Path] | None], parser: argparse.ArgumentParser) -> None:
    """Run a step from the command line: exit with status 0, or 1 after a line that starts with `error:`.

    A step that was asked to stop and has saved its state exits with `Interrupted.status`, one that Ctrl-C has ended
    without a state with 130.
    """
    arguments = parser.parse_args()
    try:
        _start_log(arguments.log)
        inputs, outputs = files_of(parser, arguments, input_file), files_of(parser, arguments, output_file)
        with recorded(Path(sys.argv[0]).stem, arguments.settings, inputs, outputs) as found:
            found += main(arguments) or []
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
