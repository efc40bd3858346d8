"""Assigning a GPU to a job: one that no other job on this machine uses.

On a cluster the scheduler assigns GPUs. On a workstation nothing does, so a job locks the first free GPU and hides the
others from CUDA, or waits until one is free. The locks belong to the operating system: it releases those of a killed
job immediately.
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

from workflow_scripts.core.errors import UserError

logger = logging.getLogger(__name__)

# SLURM, PBS, LSF and Grid Engine set one of these in each job.
SCHEDULER_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID")
VISIBLE = "CUDA_VISIBLE_DEVICES"
CLAIMED = "CROSSPROMPT_GPU"  # the GPU that this process or its parent has locked
LOCKS: list[TextIO] = []  # kept open: closing the file releases the lock
POLL_SECONDS = 1.0


def claim_gpu() -> None:
    """Lock one GPU and hide the others from this process. Call it before the first use of CUDA.

    Waits while other jobs hold every GPU. Does nothing in a scheduler's job with one GPU, on a machine without
    `nvidia-smi`, or if this process already has a GPU.
    """
    several = "," in os.environ.get(VISIBLE, "")
    if CLAIMED in os.environ or (any(name in os.environ for name in SCHEDULER_VARIABLES) and not several):
        return
    gpus = visible_gpus(installed_gpus(), os.environ.get(VISIBLE))
    if gpus:
        os.environ[CLAIMED] = os.environ[VISIBLE] = claim(gpus, lock_folder())


def installed_gpus() -> list[str]:
    """Return the identifiers (UUIDs) of this machine's NVIDIA GPUs, in bus order; none without `nvidia-smi`."""
    try:
        words = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


def visible_gpus(gpus: Sequence[str], visible: str | None) -> list[str]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES (`visible`) selects by number or identifier; all if it is not set.

    Follows CUDA's rule: an invalid number, such as -1, ends the list.
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
    """Return the folder of this user's locks, on the machine's own disk regardless of the working folder."""
    return Path(tempfile.gettempdir()) / f"crossprompt-gpus-{os.getuid()}"


def claim(gpus: Sequence[str], folder: Path) -> str:
    """Lock the first free GPU until this process ends and return its identifier; wait while none is free."""
    folder.mkdir(exist_ok=True)
    logged = False
    while True:
        for gpu in gpus:
            lock = (folder / f"{gpu.replace('/', '-')}.lock").open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            except OSError as error:
                raise UserError(
                    f"{folder} is on a disk without file locks ({error.strerror}), which assign GPUs to jobs: set"
                    " TMPDIR to a folder on this machine's own disk"
                ) from error
            LOCKS.append(lock)
            logger.info("using GPU %s", gpu)
            return gpu
        if not logged:
            logger.info("waiting for a GPU: other jobs hold all of them (%s)", ", ".join(gpus))
            logged = True
        time.sleep(POLL_SECONDS)
