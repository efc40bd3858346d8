"""Corpora in files of a folder on this machine."""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import sha256
from workflow_scripts.core.source_files import SourceFiles, matching
from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.records import rows_of_files
from workflow_scripts.corpora.rows import PlacedRow


def rows(corpus: Corpus, pinned: dict[str, Any] | None, downloads: Path) -> Iterator[PlacedRow]:
    """Each row with its place. Raises UserError if a file is missing or not in its format."""
    return rows_of_files(corpus, [(path, str(path)) for path in locate(corpus)])


def sources(corpus: Corpus) -> SourceFiles:
    """The current state of the files, with which later edits are compared. Raises UserError if there are none."""
    wanted = _path(corpus, corpus.dataset_code)
    return SourceFiles.of(locate(corpus), [wanted] if "*" in str(wanted) else [])


def origin(corpus: Corpus, pinned: dict[str, Any] | None, downloads: Path) -> dict[str, Any]:
    """Where the rows come from: the files and their checksums. The folder does not state their licence."""
    folder = Path(corpus.folder)
    found = [
        ((path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix(), path)
        for path in locate(corpus)
    ]
    return {
        "name": "files",
        "files": [{"file": name, "revision": None, "sha256": sha256(path)} for name, path in found],
        "licences": {name: "as its own release states" for name, _ in found},
    }


def locate(corpus: Corpus) -> list[Path]:
    """The files of the corpus, in sorted order. Raises UserError if there are none."""
    wanted = _path(corpus, corpus.dataset_code)
    if "*" in str(wanted):
        found = sorted(path for path in matching(wanted) if path.is_file())
    else:
        found = [wanted] if wanted.exists() else []
    if found:
        return found
    folder = Path(corpus.folder)
    if not folder.is_dir():
        raise UserError(f"{corpus.name}: there is no folder {folder}: check the path of the task or of corpora")
    raise UserError(f"{wanted} is missing ({corpus.name}); {_alternatives(corpus, wanted)}")


def _path(corpus: Corpus, language: str) -> Path:
    """The path of a language's files. An absolute one ignores the folder."""
    filled = (corpus.reading.path or "").replace("{language}", language).replace("{split}", corpus.part)
    return Path(corpus.folder) / Path(filled).expanduser()


def _alternatives(corpus: Corpus, wanted: Path) -> str:
    """The languages that have this file, or else what is in its folder."""
    pattern = _path(corpus, "*")
    if pattern != wanted and pattern.is_absolute() == wanted.is_absolute():
        form = re.escape(str(_path(corpus, "\0"))).replace("\0", "([A-Za-z0-9_-]+)", 1).replace("\0", r"\1")
        form = form.replace(r"\*", "[^/]*")
        found = (re.fullmatch(form, str(path)) for path in matching(pattern))
        if languages := sorted({match[1] for match in found if match}):
            return f"languages with a {corpus.split} set: {', '.join(languages)}"
    if not wanted.parent.is_dir():
        return f"there is no folder {wanted.parent}"
    names = sorted(path.name for path in wanted.parent.iterdir())
    return f"in its folder: {', '.join(difflib.get_close_matches(wanted.name, names, n=3) or names[:5]) or 'nothing'}"
