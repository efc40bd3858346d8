"""A marker in a training's folder: the cluster killed it for lack of memory, so it resumes with smaller micro-batches.

A process that is killed cannot write down why. Snakemake's executor learns the reason from the cluster and leaves the
marker.
"""

import contextlib
from pathlib import Path

MARK = ".killed-for-memory"


def note(folder: Path) -> None:
    """Leave the marker. If the folder cannot be written, the next attempt only gets more memory."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()


def take(folder: Path) -> bool:
    """Remove the marker; return whether it was there."""
    try:
        (folder / MARK).unlink()
    except FileNotFoundError:
        return False
    return True
