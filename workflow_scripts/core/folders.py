"""Folders that a step fills: it replaces the files that it writes and keeps all others."""

from pathlib import Path

from workflow_scripts.core.files import settle


def move_into(source: Path, folder: Path, record: str) -> None:
    """Move the files of `source` into `folder`, where they replace files of the same names; other files stay.

    Readers consider a folder complete if it has the file `record`, which is removed first and moved last. So a process
    that is killed at any moment leaves either a complete folder or one without a record.
    """
    for file in source.iterdir():
        if file.is_file():
            settle(file)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / record).unlink(missing_ok=True)
    for file in sorted(source.iterdir(), key=lambda file: file.name == record):
        file.replace(folder / file.name)
