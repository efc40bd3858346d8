"""What a Snakemake that was killed leaves in its working folder and in SLURM's queue, and the next one clears away.

Snakemake's own lock is a file: after `kill -9` it stays, and a person would have to take it away. Its jobs in SLURM's
queue run on without it, and would write what the next one's jobs write: they are cancelled first. SLURM sends them
SIGTERM, a training saves its state, and the job that takes its place goes on from there.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import time
from pathlib import Path

from workflow_scripts.experiment.errors import UserError

logger = logging.getLogger("snakemake.logging")

COMMENT = "rule_"  # how Snakemake's plugin begins the comment of every job, of groups as well
ENDING_SECONDS = 180.0  # SLURM kills what has not ended 30 seconds after SIGTERM, or when the cluster says


def clear_locks_of_the_dead(memory: Path) -> None:
    """Take away the locks of a Snakemake that was killed, so that the next one starts without `--unlock`.

    Snakemake locks a working folder by files, which `kill -9` leaves behind. The system's lock that is taken here ends
    with its process: every Snakemake shares it for as long as it lives, so whoever gets it alone is the only one.
    On a disk without such locks nothing is done, and Snakemake's own message tells of `--unlock`.

    Args:
        memory: the folder `.snakemake` in the working folder.
    """
    with contextlib.suppress(OSError):
        lock = _opened(memory / "alive.lock")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(memory / "locks", ignore_errors=True)
        fcntl.flock(lock, fcntl.LOCK_SH)


def be_the_only_one(memory: Path) -> None:
    """From here on no other Snakemake runs jobs in the working folder. Raises UserError where one does.

    Snakemake itself refuses a second one where both write the same files. But jobs in SLURM's queue are told apart by
    their folder alone: a second one with another grid would take the first one's for left over.
    """
    with contextlib.suppress(OSError):
        lock = _opened(memory / "running.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another Snakemake is at work in {memory.absolute().parent}: wait for its end, or give this one a"
                " folder of its own with --directory"
            ) from None


def _opened(file: Path) -> int:
    """A file to lock: open until the process ends, and not handed to the jobs that it starts."""
    file.parent.mkdir(exist_ok=True)
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)


def require_slurm() -> None:
    """Refuse to start where jobs cannot be submitted: Snakemake would wait for them forever. Raises UserError."""
    for program in ("sbatch", "squeue"):
        if not shutil.which(program):
            raise UserError(f"there is no {program} here: --profile slurm is for a login node of a SLURM cluster")


def cancel_jobs(folder: Path) -> None:
    """Cancel the jobs that a Snakemake in the folder has left in SLURM's queue, and wait until they have ended."""
    left = jobs_of(folder)
    if not left:
        return
    # Snakemake's handler prints the message as it is, without its arguments.
    logger.warning(f"Cancelling {len(left)} jobs that an earlier Snakemake left in SLURM's queue: {' '.join(left)}")
    subprocess.run(["scancel", *left], check=False)
    deadline = time.monotonic() + ENDING_SECONDS
    while set(left) & set(jobs_of(folder)):
        if time.monotonic() > deadline:
            raise UserError(f"SLURM's jobs {' '.join(left)} do not end: see `squeue --me`, then run again")
        time.sleep(1)


def jobs_of(folder: Path) -> list[str]:
    """The numbers of this user's jobs in SLURM's queue that a Snakemake in the folder has sent there."""
    if not shutil.which("squeue"):
        return []
    words = ["squeue", "--me", "--noheader", "--format=%i|%k|%Z"]
    outcome = subprocess.run(words, check=False, capture_output=True, text=True)
    jobs = [line.split("|", 2) for line in outcome.stdout.splitlines() if line.count("|") >= 2]
    return [
        number
        for number, comment, place in jobs
        if comment.startswith(COMMENT) and Path(place).resolve() == folder.resolve()
    ]
