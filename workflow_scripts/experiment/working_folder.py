"""One Snakemake at a time in a working folder, and none of an earlier one's jobs in SLURM's queue.

Snakemake's own lock is a file: after `kill -9` it stays, and a person has to take it away. The one here belongs to the
operating system and ends with its process, so the same command goes on. The jobs that a killed Snakemake has in SLURM's
queue run on without it, and would write what the next one's jobs write: they are cancelled first. SLURM sends them
SIGTERM, a training saves its state, and the job that takes its place goes on from there.
"""

import fcntl
import logging
import shutil
import subprocess
import time
from pathlib import Path
from typing import TextIO

from workflow_scripts.experiment.errors import UserError

logger = logging.getLogger("snakemake.logging")

LOCK = Path(".snakemake") / "in_use.lock"
COMMENT = "rule_"  # how Snakemake's plugin begins the comment of every job, of groups as well
HELD: list[TextIO] = []  # the lock lasts as long as its file is open
ENDING_SECONDS = 180.0  # SLURM kills what has not ended 30 seconds after SIGTERM, or when the cluster says


def take_over(folder: Path) -> None:
    """Make this process the only Snakemake in the folder, for as long as it lives.

    Raises UserError where another one works there.
    """
    file = folder / LOCK
    file.parent.mkdir(exist_ok=True)
    lock = file.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(f"another Snakemake works in {folder}: wait for it, or name another --directory") from None
    except OSError as error:
        # Nobody can tell then whether the jobs in the queue are somebody's: leave them alone.
        logger.warning("%s cannot be locked (%s): start no second Snakemake here", file, error.strerror)
        return
    HELD.append(lock)
    cancel_jobs(folder)


def cancel_jobs(folder: Path) -> None:
    """Cancel the jobs that a Snakemake in the folder has left in SLURM's queue, and wait until they have ended."""
    left = jobs_of(folder)
    if not left:
        return
    logger.warning("cancels %d jobs that an earlier Snakemake left in SLURM's queue: %s", len(left), " ".join(left))
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
