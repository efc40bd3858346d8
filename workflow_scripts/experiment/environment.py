"""The environment of every step's process."""

import contextlib
import fcntl
import os
import shutil
import sys
from pathlib import Path

from workflow_scripts.experiment.errors import UserError


def prepare(root: Path) -> None:
    """Let steps find their modules and the Python that runs Snakemake, wherever the working folder is.

    `root` is the project's folder. Only the rules that fetch may go online; the others switch the hub off themselves.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["PYTHONHASHSEED"] = "0"


def refuse_read_only(resources: Path, results: Path) -> None:
    """Tell of a folder that cannot be written before Snakemake does, which names an output but no way out.

    Raises UserError.
    """
    for folder, way_out in (
        (Path(), "start in another folder with --directory"),
        (Path(".snakemake"), "start in another folder with --directory"),
        (Path("logs"), "start in another folder with --directory"),
        (resources, "name another folder with the key resources"),
        (results, "name another folder with the key results"),
    ):
        if folder.exists() and not os.access(folder, os.W_OK):
            raise UserError(f"{folder.absolute()} cannot be written: give yourself the right to it, or {way_out}")


def clear_locks_of_the_dead(memory: Path) -> None:
    """Take away the locks of a Snakemake that was killed, so that the next one starts without `--unlock`.

    Snakemake locks a working folder by files, which `kill -9` leaves behind. The system's lock that is taken here ends
    with its process: every Snakemake shares it for as long as it lives, so whoever gets it alone is the only one.
    On a disk without such locks nothing is done, and Snakemake's own message tells of `--unlock`.

    Args:
        memory: the folder `.snakemake` in the working folder.
    """
    with contextlib.suppress(OSError):
        memory.mkdir(exist_ok=True)
        # Open until the process ends, and not handed to the jobs that it starts.
        lock = os.open(memory / "alive.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(memory / "locks", ignore_errors=True)
        fcntl.flock(lock, fcntl.LOCK_SH)
