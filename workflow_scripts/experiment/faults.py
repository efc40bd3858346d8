"""What the machine can refuse a step - room on a disk, leave to write, memory, a package - told in one line.

The libraries report the same fault in many ways: an OSError with a number, an error of their own with the system's
words in its text, with the file's name or without it. Only the standard library is imported, so that a missing package
can be told, too.
"""

import errno
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType

AGAIN = "then run the workflow again: it goes on from what is there"
FULL = (errno.ENOSPC, errno.EDQUOT)
LOCKED = (errno.EROFS, errno.EACCES, errno.EPERM)
# PyTorch's allocators raise a RuntimeError each; the words are theirs, of CUDA's libraries, of Arrow and of the system.
OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Cannot allocate memory",
    "not enough memory",
    "malloc of size",
)


def explain(error: BaseException, path: Path | None = None) -> str | None:
    """One line that names the file or package and the way out; None for an error that is not of the machine.

    `path` is the file that was being written, where that is known.
    """
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    own = (error.filename2 or error.filename) if isinstance(error, OSError) else None
    if number in FULL or any(os.strerror(code) in text for code in FULL):
        return f"{path or own or full_folder()} cannot be written, the disk is full: make room there, {AGAIN}"
    if number == errno.ENOMEM or isinstance(error, MemoryError) or any(words in text for words in OF_MEMORY):
        return (
            f"there is not enough memory ({text.splitlines()[0][:120] if text else type(error).__name__}): run fewer"
            f" jobs at once (--cores) or take a machine with more, {AGAIN}"
        )
    if number in LOCKED or any(os.strerror(code) in text for code in LOCKED):
        reason = next((os.strerror(code) for code in LOCKED if code == number or os.strerror(code) in text), text)
        return (
            f"{own or path or 'a file'} cannot be opened ({reason}): give yourself the right to it, or name other"
            f" folders with the keys results and resources; {AGAIN}"
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"the Python package {error.name.partition('.')[0]} is missing from {sys.executable}: `make run` installs"
            " what is needed into .venv; elsewhere, pip install --requirement envs/requirements.txt"
        )
    return None


def full_folder() -> str:
    """Which of the folders that a step writes to lies on a full disk: for errors that name no file."""
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        if shutil.disk_usage(folder).free < 1_000_000:
            return f"{folder}"
    return "a file"


def say_missing_package(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The interpreter's last word on an error: one line for a missing package, which no step can catch itself."""
    message = explain(error) if isinstance(error, ModuleNotFoundError) else None
    if message:
        print(f"error: {message}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
