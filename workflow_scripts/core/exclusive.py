"""Keeps two processes from making the same output at the same time.

A step process survives if Snakemake alone is killed with SIGKILL. The next command starts the same job, and both would
write the same checkpoint. So a training holds a file lock beside its output while it runs. A process that finds the
lock held waits. If the holder is an orphan on this machine, it is asked to save a checkpoint and end; the waiting
process then resumes from there. The kernel releases the lock of a killed process.

On a file system without such locks this does nothing.
"""

import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
BEAT_SECONDS = 60.0  # between two heartbeats of a holder
# A server may keep the lock of a machine that has crashed. NFS clients show a new time after a minute at the latest.
SILENT_SECONDS = 600.0
DELETED = 100  # times that a lock file may be found deleted


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        host: the name of its machine.
        process: its id.
        parent: the id of the process that started it.
    """

    host: str
    process: int
    parent: int

    @classmethod
    def this_process(cls) -> "Holder":
        """This process as a holder."""
        return cls(socket.gethostname(), os.getpid(), os.getppid())

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()

    @property
    def is_orphan(self) -> bool:
        """Whether it runs on this machine and the process that started it has ended."""
        if not self.is_here:
            return False
        try:
            os.kill(self.parent, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


def lock_of(output: Path) -> Path:
    """The lock file of an output."""
    return output.with_name(f".{output.name}.lock")


@contextlib.contextmanager
def alone_at(output: Path) -> Iterator[bool]:
    """Hold the lock of an output within the block. Yields whether another process held it before."""
    lock, waited = _wait(lock_of(output))
    if lock is None:
        yield waited
        return
    ended = threading.Event()
    threading.Thread(target=_show_life, args=(lock, ended), daemon=True).start()
    try:
        yield waited
    finally:
        ended.set()
        with contextlib.suppress(OSError):
            lock_of(output).unlink()  # while it is locked: a process that has opened it then opens the next one
        os.close(lock)


def _wait(file: Path) -> tuple[int | None, bool]:
    """Wait for a lock. Return its descriptor, or None without a lock, and whether another process held it before."""
    known: Holder | None = None
    asked: Holder | None = None
    sign, seen = 0, time.monotonic()
    waited, deleted = False, 0
    while True:
        try:
            if (lock := _locked(file, deleted < DELETED)) is not None:
                return lock, waited
            last = file.stat().st_mtime_ns
        except FileNotFoundError:  # it was just released
            deleted += 1
            continue
        except OSError as error:
            reason = error.strerror or str(error)
            logger.info("%s cannot be locked (%s): another process could make the same files", file, reason)
            return None, waited
        waited = True
        if last != sign:
            sign, seen = last, time.monotonic()
        if (holder := _holder(file)) is not None:
            if holder != known:
                logger.warning("waiting for process %d on %s, which makes the same files", holder.process, holder.host)
            elif holder.is_orphan and holder != asked:  # unchanged for a second: not the content of an earlier lock
                logger.warning("process %d was left by an earlier command: asking it to stop", holder.process)
                with contextlib.suppress(OSError):
                    os.kill(holder.process, signal.SIGTERM)
                asked = holder
            known = holder
            if not holder.is_here and time.monotonic() - seen > SILENT_SECONDS:
                logger.warning(
                    "no sign of life of process %d on %s for %d minutes: continuing without it",
                    *(holder.process, holder.host, SILENT_SECONDS // 60),
                )
                return None, waited
        time.sleep(POLL_SECONDS)


def _locked(file: Path, compare: bool) -> int | None:
    """Lock a file; its descriptor, which child processes do not inherit, or None if another process holds the lock.

    Raises OSError if the file system has no locks, and FileNotFoundError if the holder deleted the file since it was
    opened. `compare`: whether to check that; some file systems have no inode numbers to check it by.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if compare and os.fstat(lock).st_ino != file.stat().st_ino:
            raise FileNotFoundError(file)
        content = json.dumps(asdict(Holder.this_process())).encode()
        os.ftruncate(lock, 0)
        os.pwrite(lock, content, 0)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:
        os.close(lock)
        raise
    return lock


def _holder(file: Path) -> Holder | None:
    """The process that holds a lock; None if it has not yet written who it is."""
    try:
        return Holder(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _show_life(lock: int, ended: threading.Event) -> None:
    """Update the time of the lock file until the block ends."""
    while not ended.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(lock)
