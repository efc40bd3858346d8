"""Which GPU a job computes on: one that no other job of this machine holds.

On a cluster the scheduler gives each job its own. On a workstation nobody does: there, a job takes the first GPU whose
lock is free and hides the others, or waits for one. The locks are the operating system's, so that of a job that was
killed is free at once.
"""

import fcntl
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

logger = logging.getLogger(__name__)

# Set by the schedulers SLURM, PBS, LSF and Grid Engine in each job.
SCHEDULED = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID")
VISIBLE = "CUDA_VISIBLE_DEVICES"
OWN = "CROSSPROMPT_GPU"  # the GPU that this process, or the one that started it, holds
HELD: list[TextIO] = []  # a lock lasts as long as its file is open
POLL_SECONDS = 1.0


def claim_gpu() -> None:
    """Make one GPU the only one that this process sees; call it before CUDA is used for the first time.

    Does nothing in a scheduler's job that has a GPU of its own, on a machine without `nvidia-smi`, or where a GPU is
    held already. Waits while other jobs hold every GPU.
    """
    several = "," in os.environ.get(VISIBLE, "")
    if OWN in os.environ or (any(name in os.environ for name in SCHEDULED) and not several):
        return
    gpus = allowed(installed_gpus(), os.environ.get(VISIBLE))
    if gpus:
        os.environ[OWN] = os.environ[VISIBLE] = claim(gpus, lock_folder())


def installed_gpus() -> list[str]:
    """The identifiers of this machine's NVIDIA GPUs, in the order of their places on the bus."""
    try:
        words = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


def allowed(gpus: Sequence[str], visible: str | None) -> list[str]:
    """Those that CUDA_VISIBLE_DEVICES lets through, by number or identifier; all where it is not set.

    As CUDA reads it: what comes after a number that is no GPU's, such as -1, does not count.
    """
    if visible is None or not gpus:
        return list(gpus)
    found = []
    for name in filter(None, (part.strip() for part in visible.split(","))):
        if name.startswith("-") or (name.isdigit() and int(name) >= len(gpus)):
            break
        if not name.isdigit():
            found.append(name)
        else:
            found.append(gpus[int(name)])
    return found


def lock_folder() -> Path:
    """Where this user's locks lie: on the machine itself, whatever the working folder."""
    return Path(tempfile.gettempdir()) / f"crossprompt-gpus-{os.getuid()}"


def claim(gpus: Sequence[str], folder: Path) -> str:
    """Hold the lock of the first GPU that is free, to the end of this process; wait while none is."""
    folder.mkdir(exist_ok=True)
    told = False
    while True:
        for gpu in gpus:
            lock = (folder / f"{gpu.replace('/', '-')}.lock").open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            HELD.append(lock)
            logger.info("computes on %s", gpu)
            return gpu
        if not told:
            logger.info("waits: other jobs hold every GPU (%s)", ", ".join(gpus))
            told = True
        time.sleep(POLL_SECONDS)
