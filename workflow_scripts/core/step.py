"""What all steps have in common: the command line, the log, errors, and the lineage of outputs.

A step is a module with `main(arguments)` that ends with

    if __name__ == "__main__":
        run(main, parser())

Its parser gives arguments for files that the step reads or writes the types `input_file` and `output_file`, and names
the class of the step's settings. `main` returns further input files that are not among its arguments, and the user's
files, or nothing.
"""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from workflow_scripts.core.errors import BUG_MESSAGE, ERROR_PREFIX, Interrupted, UserError
from workflow_scripts.core.exclusive import alone_at
from workflow_scripts.core.faults import explain
from workflow_scripts.core.files import appears, read_json, sha256
from workflow_scripts.core.lineage import is_current, record_of, recorded
from workflow_scripts.core.own_module import explain_own
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.source_files import SourceFiles
from workflow_scripts.core.visible import visible

logger = logging.getLogger(__name__)


def input_file(text: str) -> Path:
    """The type of arguments for files that the step reads; they become part of the outputs' lineage."""
    return Path(text)


def output_file(text: str) -> Path:
    """The type of arguments for files that the step writes; their lineage is recorded beside them."""
    return Path(text)


def files_of(parser: argparse.ArgumentParser, arguments: argparse.Namespace, kind: Callable[[str], Path]) -> list[Path]:
    """The files among the arguments of one type: `input_file` or `output_file`."""
    given = [getattr(arguments, action.dest) for action in parser._actions if action.type is kind]
    return [file for value in given if value for file in (value if isinstance(value, list) else [value])]


def step_parser(description: str | None, settings: type[StepSettings] = StepSettings) -> argparse.ArgumentParser:
    """A parser with the arguments of all steps.

    Args:
        description: the help text; a step gives its module's docstring.
        settings: the class of `arguments.settings`.

    Parsing raises UserError if the JSON text of the settings does not fit the class.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    needed = any(field.is_required() for field in settings.model_fields.values())
    parser.add_argument(
        "--settings",
        type=settings.parsed,
        required=needed,
        default=None if needed else "{}",  # argparse parses a default that is a text
        metavar="JSON",
        help="the step's settings",
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="a file for the log, in addition to the terminal")
    return parser


def run(
    main: Callable[[argparse.Namespace], Iterable[Path | SourceFiles] | None],
    parser: argparse.ArgumentParser,
    is_complete: Callable[[argparse.Namespace], bool] | None = None,
) -> None:
    """Run a step from the command line: exit with status 0, or with 1 after a line that starts with `error:`.

    A step with `is_complete` waits for another process that makes the same output, see `core/exclusive.py`. If that
    process finished, with the same settings and inputs, and `is_complete` finds all files, there is nothing left to do.

    A step that was interrupted exits with `Interrupted.status` if it has saved a checkpoint, and with 130 if Ctrl-C
    ended it without one.
    """
    try:
        arguments = parser.parse_args()
        _start_log(arguments.log)
        inputs, outputs = files_of(parser, arguments, input_file), files_of(parser, arguments, output_file)
        settings = arguments.settings.as_json()
        with alone_at(outputs[0]) if is_complete else contextlib.nullcontext(False) as waited:
            # That process may have run on another machine: its files are waited for before they are compared.
            if (
                waited
                and is_complete
                and appears(record_of(outputs[0]))
                and is_complete(arguments)
                and is_current(settings, inputs, outputs)
            ):
                logger.warning("that process has made %s", outputs[0])
            else:
                with recorded(Path(sys.argv[0]).stem, settings, inputs, outputs) as found:
                    found += main(arguments) or []
    except UserError as error:
        _log_error(str(error))
        sys.exit(1)
    except Interrupted as interruption:
        logger.warning("interrupted: %s", interruption)
        _exit(interruption.status)
    except KeyboardInterrupt:
        logger.warning("interrupted")
        _exit(130)  # a shell's status for programs that Ctrl-C ended
    except Exception as error:
        message = explain(error)
        if message:
            _log_error(message)
        elif message := explain_own(error):
            _log_error(message)
            # For the log file only, whose reader wrote that code.
            logger.info("the traceback follows", exc_info=error)
        else:
            # A bug: the log needs the whole traceback.
            logger.exception("%s%s", ERROR_PREFIX, BUG_MESSAGE)
        sys.exit(1)
    _exit(0)


def _exit(status: int) -> NoReturn:
    """End the process without unloading PyTorch; all files are closed.

    Unloading takes 0.5 s of a prediction's 3.8 s, and a second SIGTERM during it would kill the process.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _log_error(message: str) -> None:
    """Log the lines of a message for the user."""
    for line in message.split("\n"):
        logger.error("%s%s", ERROR_PREFIX, line)


def _start_log(file: Path | None) -> None:
    """Send warnings and errors to the terminal, and everything to the log file."""
    logging.raiseExceptions = False  # an error of logging on a full disk must not hide our message about it
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setLevel(logging.WARNING)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, mode="w", encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(_VisibleFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)


class _VisibleFormatter(logging.Formatter):
    """Escapes control characters, since log lines quote data."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def recorded_files(records: Iterable[Path], file_of: Callable[[Path, str], Path]) -> dict[str, Path]:
    """The files of each language, from records that hold their checksums.

    `file_of` is `names.predictions_file` or `names.vectors_file`. Raises UserError if a file is missing or its
    checksum differs from the record.
    """
    files = {}
    for record in records:
        for language, checksum in read_json(record).items():
            file = file_of(record, language)
            if not appears(file) or sha256(file) != checksum:
                raise UserError(
                    f"{file} does not have the checksum in {record}: delete {record} and run the workflow again"
                )
            files[language] = file
    return files
