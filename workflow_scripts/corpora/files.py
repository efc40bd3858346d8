"""Corpora in files of a folder on this machine."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.records import rows_of_files
from workflow_scripts.corpora.rows import PlacedRow
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.files import sha256


def rows(corpus: Corpus, pinned: dict[str, Any] | None, downloads: Path) -> Iterator[PlacedRow]:
    """Each row with its place. Raises UserError if a file is missing or not in its format."""
    return rows_of_files(corpus, [(path, str(path)) for path in locate(corpus)])


def origin(corpus: Corpus, pinned: dict[str, Any] | None, downloads: Path) -> dict[str, Any]:
    """Where the rows come from: the files and their checksums. The folder does not say which licence they have."""
    found = [(path.relative_to(corpus.folder).as_posix(), path) for path in locate(corpus)]
    return {
        "name": "files",
        "files": [{"file": name, "revision": None, "sha256": sha256(path)} for name, path in found],
        "licences": {name: "as its own release states" for name, _ in found},
    }


def locate(corpus: Corpus) -> list[Path]:
    """The files of the corpus, in sorted order. Raises UserError if there are none."""
    folder, pattern = Path(corpus.folder), corpus.filled(corpus.reading.path or "")
    found = sorted(path for path in folder.glob(pattern) if path.is_file()) if "*" in pattern else [folder / pattern]
    if found and found[0].is_file():
        return found
    wanted = folder / pattern
    if not folder.is_dir():
        raise UserError(f"{corpus.name}: there is no folder {folder}: check the path of the task or of corpora")
    there = sorted(path.name for path in wanted.parent.glob("*")) if wanted.parent.is_dir() else []
    near = difflib.get_close_matches(wanted.name, there, n=3) or there[:5]
    raise UserError(
        f"{wanted} is missing ({corpus.name}); in its folder: {', '.join(near) or 'nothing'}"
        if wanted.parent.is_dir()
        else f"{wanted} is missing ({corpus.name}); there is no folder {wanted.parent}"
    )
