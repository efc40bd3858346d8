"""The user's own Python files: a kind of task, or a method of tuning."""

import importlib.util
from pathlib import Path
from types import ModuleType

from workflow_scripts.core.errors import UserError


def import_file(file: str, what: str, missing: str = "") -> ModuleType:
    """Import a Python file by its path.

    Args:
        file: the path.
        what: what the file is, in messages: `kind`, `method`.
        missing: the end of the message where there is no such file.

    Raises UserError if the file is missing or imports a package that is not installed; other errors as they are.
    """
    path = Path(file)
    spec = importlib.util.spec_from_file_location(f"{what}_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"there is no Python file {file}{missing}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{file} imports {error.name}, which is not installed; a {what} must be a single file: move helper"
            " functions into it"
        ) from error
    return module
