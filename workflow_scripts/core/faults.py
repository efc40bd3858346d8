"""One-line messages for machine faults: a full disk, missing permissions, too little memory, a missing package.

Libraries report the same fault in many ways: as an OSError with an error number, or as an exception of their own with
the system's message in its text, with or without the file's name. This module imports only the standard library, so
that it can also report a missing package.
"""

import errno
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType

RESUME = "then run the workflow again: it resumes"
FULL = (errno.ENOSPC, errno.EDQUOT)
BROKEN = (errno.EIO, errno.ESTALE)
LOCKED = (errno.EROFS, errno.EACCES, errno.EPERM)
# Texts of errors of PyTorch's allocators (each raises a RuntimeError), CUDA's libraries, Arrow and the system.
OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Cannot allocate memory",
    "not enough memory",
    "malloc of size",
)


def explain(error: BaseException, path: Path | None = None) -> str | None:
    """One line that names the file or package and the remedy; None if the error is not a fault of the machine.

    `path` is the file that was being written, if that is known.
    """
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    own = (error.filename2 or error.filename) if isinstance(error, OSError) else None
    if number in FULL or any(os.strerror(code) in text for code in FULL):
        return f"{path or own or full_folder()} cannot be written, the disk is full: free some space, {RESUME}"
    if number == errno.ENOMEM or isinstance(error, MemoryError) or any(words in text for words in OF_MEMORY):
        return (
            f"there is not enough memory ({text.splitlines()[0][:120] if text else type(error).__name__}): run fewer"
            f" jobs at once (--cores) or use a machine with more memory, {RESUME}"
        )
    if number in LOCKED or any(os.strerror(code) in text for code in LOCKED):
        reason = next((os.strerror(code) for code in LOCKED if code == number or os.strerror(code) in text), text)
        return (
            f"{own or path or 'a file'} cannot be opened ({reason}): change its permissions, or choose other"
            f" folders with the keys results and resources, {RESUME}"
        )
    if number in BROKEN or any(os.strerror(code) in text for code in BROKEN):
        reason = next((os.strerror(code) for code in BROKEN if code == number or os.strerror(code) in text), text)
        return f"{own or path or 'a file'} cannot be read or written ({reason}): check the disk or its server, {RESUME}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"the Python package {error.name.partition('.')[0]} is missing from {sys.executable}: `make run` installs"
            " all packages into .venv; in another environment, run pip install --requirement envs/requirements.txt"
        )
    return None


def full_folder() -> str:
    """The folder on a full disk that a step writes to, for errors that name no file."""
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        if shutil.disk_usage(folder).free < 1_000_000:
            return f"{folder}"
    return "a file"


def report_missing_package(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An exception hook: one line for a missing package, which a step cannot catch when its imports fail."""
    message = explain(error) if isinstance(error, ModuleNotFoundError) else None
    if message:
        print(f"error: {message}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
