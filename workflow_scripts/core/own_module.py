"""The user's own Python files: a kind of task, or a method of tuning."""

import importlib.util
import traceback
from pathlib import Path
from types import ModuleType

from workflow_scripts.core.errors import UserError

_imported: dict[str, str] = {}  # the files by their absolute paths, and as the user names them


def import_file(file: str, what: str, missing: str = "") -> ModuleType:
    """Import a Python file by its path.

    Args:
        file: the path.
        what: what the file is, in messages: `kind`, `method`.
        missing: the end of the message where there is no such file.

    Raises UserError if the file is missing, imports a package that is not installed, or raises any other exception.
    """
    path = Path(file)
    spec = importlib.util.spec_from_file_location(f"{what}_{path.stem}", path)
    if spec is None or spec.loader is None or spec.origin is None or not path.is_file():
        raise UserError(f"there is no Python file {file}{missing}")
    module = importlib.util.module_from_spec(spec)
    _imported[spec.origin] = file
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(
            f"{file} imports {error.name}, which is not installed; a {what} must be a single file: move helper"
            " functions into it"
        ) from error
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise UserError(f"{file}{line}: {error.msg}") from error
    except Exception as error:  # anything that the user's code raises while it is imported
        raise UserError(explain_own(error) or f"{file}: {_in_one_line(error)}") from error
    return module


def explain_own(error: BaseException) -> str | None:
    """One line with the file, the line and the exception, if a user's file raised it or called what raised it."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in _imported:
            return f"{_imported[frame.filename]}, line {frame.lineno}: {_in_one_line(error)}"
    return None


def _in_one_line(error: BaseException) -> str:
    """`ZeroDivisionError: division by zero`: the exception and the first line of its message."""
    message = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
