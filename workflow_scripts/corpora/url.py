"""Corpora in files at an address, fetched once and verified by their checksum."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import once, sha256
from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.records import rows_of_files
from workflow_scripts.corpora.rows import PlacedRow
from workflow_scripts.network.download import fetch_url


def rows(corpus: Corpus, pinned: dict[str, Any] | None, downloads: Path) -> Iterator[PlacedRow]:
    """Each row with its place. Raises UserError if the file cannot be fetched or has another checksum."""
    address = _address(corpus)
    return rows_of_files(corpus, [(_fetched(corpus, downloads), address)])


def origin(corpus: Corpus, pinned: dict[str, Any] | None, downloads: Path) -> dict[str, Any]:
    """Where the rows come from: the address and the file's checksum."""
    address, path = _address(corpus), _fetched(corpus, downloads)
    return {
        "name": urlparse(address).netloc,
        "files": [{"file": address, "revision": None, "sha256": once(sha256, path)}],
        "licences": {address: "as its own release states"},
    }


def _address(corpus: Corpus) -> str:
    return corpus.filled(corpus.reading.url or "")


def _fetched(corpus: Corpus, downloads: Path) -> Path:
    """The file in the folder for downloads. Files from different addresses have different names."""
    address, checksums = _address(corpus), corpus.reading.sha256
    expected = checksums.get(address) if isinstance(checksums, dict) else checksums
    if isinstance(checksums, dict) and expected is None:
        raise UserError(f"{corpus.name}: sha256 has no checksum of {address}: add it, or leave sha256 out")
    name = Path(urlparse(address).path).name or "file"
    path = downloads / "files" / hashlib.sha256(address.encode()).hexdigest()[:12] / name
    fetch_url(address, path, expected)
    return path
