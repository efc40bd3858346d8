"""Folders that a step fills: it replaces the files that it writes, and leaves every other file alone."""

from pathlib import Path


def move_into(source: Path, folder: Path, record: str) -> None:
    """Move the files of `source` into `folder`, over those of the same names; other files of `folder` stay.

    The file `record`, by which readers know that the folder is whole, is removed first and moved last. So a process
    that is killed at any moment leaves a folder without a record, or a whole one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / record).unlink(missing_ok=True)
    for file in sorted(source.iterdir(), key=lambda file: file.name == record):
        file.replace(folder / file.name)
