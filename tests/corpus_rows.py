"""Rows of a corpus, as the step `fetch_corpus` would write them."""

import hashlib
import importlib
from pathlib import Path
from typing import Any

import pytest

from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.rows import complete
from workflow_scripts.experiment.tasks import builtin, resolve


def described(
    task: str, source: str, language: str, split: str, folder: Path | None = None, limit: int | None = None, **keys: Any
) -> Corpus:
    """A corpus of a built-in task; `keys` replace keys of its source."""
    folder_text = None if folder is None else str(folder)
    found = resolve(task, builtin(task), source, language, split, limit, folder_text)
    return found.model_copy(update={"reading": found.reading.model_copy(update=keys)})


def rows_of(corpus: Corpus, pinned: Any = None, downloads: Path = Path("unused")) -> list[dict[str, Any]]:
    """All rows, each checked."""
    source = importlib.import_module(f"workflow_scripts.corpora.{corpus.type}")
    return list(complete(lambda: source.rows(corpus, pinned, downloads), corpus))


def origin_of(corpus: Corpus, pinned: Any = None, downloads: Path = Path("unused")) -> dict[str, Any]:
    """Their origin."""
    source = importlib.import_module(f"workflow_scripts.corpora.{corpus.type}")
    found: dict[str, Any] = source.origin(corpus, pinned, downloads)
    return found


def without_groups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as they are in their source."""
    return [{name: value for name, value in row.items() if name != "group"} for row in rows]


def hashed_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of all files that are hashed from now on, as they are hashed."""
    paths, digest = [], hashlib.file_digest

    def spy(file: Any, name: str) -> Any:
        paths.append(file.name)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", spy)
    return paths
