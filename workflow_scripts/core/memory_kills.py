"""A mark in a training's folder which says that a cluster killed it for memory: it resumes with smaller micro-batches.

A process that is killed cannot write down why. Snakemake's executor learns it from the cluster and leaves the mark.
"""

import contextlib
from pathlib import Path

MARK = ".killed-for-memory"


def note(folder: Path) -> None:
    """Leave the mark. Where the folder cannot be written, the next attempt has more memory alone."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()


def take(folder: Path) -> bool:
    """Remove the mark; whether it was there."""
    try:
        (folder / MARK).unlink()
    except FileNotFoundError:
        return False
    return True
