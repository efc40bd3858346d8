"""Reading and writing files: atomically, with errors that name the file."""

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.faults import explain
from workflow_scripts.core.json_text import decode
from workflow_scripts.core.names import LATENCY

os.umask(_mask := os.umask(0o077))  # there is no other way to read the umask
ORDINARY = 0o666 & ~_mask  # the permissions of a new file
PRIVATE = 0o600  # those of a file that safetensors wrote, which others in a group could not read
POLL_SECONDS = 0.5
READ_SIZE = 1 << 20  # bytes


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path` in the error if the machine cannot write it within the block. Raises UserError."""
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
def written(path: Path, durable: bool = True) -> Iterator[Path]:
    """Write a file atomically: yields a temporary path, which is renamed to `path` when the block succeeds.

    A reader never sees half a file. Raises UserError that names `path` if the machine cannot write it. Give Arrow an
    opened file: for a file that it opens itself, it says that closing failed, but not why.

    durable: wait until the content is on the disk. It then survives a power loss, and a network disk whose quota is
        reached reports that before the earlier file is replaced.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with naming(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            settle(temporary, durable)
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def settle(path: Path, durable: bool = True) -> None:
    """Complete a file that a library has written: set its permissions, and sync its content to disk.

    Raises OSError if the content could not be written: a network disk accepts it, and may refuse it when the file is
    closed. Libraries ignore that error.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if stat.S_IMODE(os.fstat(file).st_mode) == PRIVATE != ORDINARY:
            os.fchmod(file, ORDINARY)
        if durable:
            os.fsync(file)
    finally:
        os.close(file)


def appears(path: Path, since: float | None = None) -> bool:
    """Whether a file exists. Waits for one that was written on another machine, which a network disk shows late.

    since: the latest possible time (Unix) at which it was written; None means now.
    """
    deadline = (time.time() if since is None else since) + float(os.environ.get(LATENCY) or 0)
    while not path.is_file():
        if time.time() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def fault_of(path: Path) -> str | None:
    """Why the machine cannot read a file, in one line; None if it can, or if there is no such file.

    Libraries report a failing disk as a damaged file, which users would delete.
    """
    try:
        with path.open("rb") as file:
            while file.read(READ_SIZE):
                pass
    except OSError as error:
        return explain(error, path)
    return None


def unreadable(path: Path, otherwise: str) -> UserError:
    """The error for a file that a library could not read: the machine's fault, if there is one, or `otherwise`."""
    return UserError(fault_of(path) or otherwise)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Raises UserError if the disk does not deliver the file."""
    with naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_checksums: dict[tuple[Any, ...], str] = {}


def once(checksum: Callable[[Path], str], path: Path) -> str:
    """The checksum of a file, computed once per process, and again only if the file was replaced or changed since.

    For data that a step reads several times. A file counts as the same by its inode, size and modification time.
    """
    state = path.stat()
    key = checksum, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
    if key not in _checksums:
        _checksums[key] = checksum(path)
    return _checksums[key]


def write_json(path: Path, value: Any) -> None:
    """Write JSON that people can read, too: sorted keys, indented, Unicode without escapes."""
    with written(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON. Raises UserError that names the file if it is missing or damaged."""
    try:
        return decode(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): run the workflow again") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it and run the workflow again") from error
