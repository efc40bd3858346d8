"""Cleans up after a killed Snakemake process: its locks in the working folder and its jobs in SLURM's queue.

Snakemake's own lock is a file. It remains after `kill -9`, and users would have to remove it. Jobs in SLURM's queue
keep running and would write the same files as the jobs of the next Snakemake, so they are cancelled first. SLURM sends
them SIGTERM, a training saves a checkpoint, and the job that replaces it resumes from there.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import time
from pathlib import Path

from workflow_scripts.core.errors import UserError

logger = logging.getLogger("snakemake.logging")

COMMENT = "rule_"  # the start of the comment that Snakemake's plugin gives every job, groups included
COMPLETING = "COMPLETING"  # SLURM ends the job's processes, or cleans up after them
ENDING_SECONDS = 180.0  # SLURM kills jobs 30 seconds after SIGTERM, or after the time that the cluster sets


def remove_stale_locks(metadata: Path) -> None:
    """Remove the locks of a Snakemake process that was killed, so that the next one starts without `--unlock`.

    Snakemake locks a working folder with files, which remain after `kill -9`. The kernel's file lock that this takes
    ends with its process. Every Snakemake process holds it as a shared lock, so a process that gets it as an exclusive
    lock is the only one. On file systems without such locks this does nothing, and Snakemake's own message names
    `--unlock`.

    Args:
        metadata: the folder `.snakemake` in the working folder.
    """
    with contextlib.suppress(OSError):
        lock = _opened(metadata / "alive.lock")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(metadata / "locks", ignore_errors=True)
        fcntl.flock(lock, fcntl.LOCK_SH)


def lock_working_folder(metadata: Path) -> None:
    """Keep other Snakemake processes from running jobs in the working folder. Raises UserError if one is running.

    Snakemake itself refuses a second process only if both write the same files. But jobs in SLURM's queue are
    identified by their working folder alone: a second process with another grid would cancel the first one's jobs.
    """
    with contextlib.suppress(OSError):
        lock = _opened(metadata / "running.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another Snakemake is running in {metadata.absolute().parent}: wait until it ends, or choose another"
                " working folder with --directory"
            ) from None


def _opened(file: Path) -> int:
    """Open a file to lock. It stays open until the process ends, and is not inherited by jobs."""
    file.parent.mkdir(exist_ok=True)
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)


def require_slurm() -> None:
    """Check that jobs can be submitted: otherwise Snakemake would wait for them forever. Raises UserError."""
    for program in ("sbatch", "squeue"):
        if not shutil.which(program):
            raise UserError(f"{program} was not found: use --profile slurm on a login node of a SLURM cluster")


def cancel_jobs(folder: Path) -> None:
    """Cancel jobs that a Snakemake in the folder left in SLURM's queue, and wait for their end. Raises UserError.

    A job that is still completing when SLURM must have killed its processes does not stop the run: the cluster's epilog
    or a dead disk can hold it for hours.
    """
    left = jobs_of(folder)
    if not left:
        return
    # Snakemake's log handler ignores a message's arguments.
    logger.warning(f"Ending the jobs that an earlier Snakemake left in SLURM's queue: {' '.join(left)}")
    subprocess.run(["scancel", *left], check=False)
    deadline = time.monotonic() + ENDING_SECONDS
    while states := {number: state for number, state in jobs_of(folder).items() if number in left}:
        if time.monotonic() > deadline:
            if set(states.values()) != {COMPLETING}:
                raise UserError(f"SLURM's jobs {' '.join(states)} did not end: see `squeue --me`, then run again")
            logger.warning(f"SLURM's jobs are still completing, so that their nodes are not free: {' '.join(states)}")
            return
        time.sleep(1)


def jobs_of(folder: Path) -> dict[str, str]:
    """The ids and states of this user's jobs in SLURM's queue that a Snakemake in the folder submitted."""
    if not shutil.which("squeue"):
        return {}
    words = ["squeue", "--me", "--noheader", "--format=%i|%T|%k|%Z"]
    outcome = subprocess.run(words, check=False, capture_output=True, text=True)
    jobs = [line.split("|", 3) for line in outcome.stdout.splitlines() if line.count("|") >= 3]
    return {
        number: state
        for number, state, comment, place in jobs
        if comment.startswith(COMMENT) and Path(place).resolve() == folder.resolve()
    }
