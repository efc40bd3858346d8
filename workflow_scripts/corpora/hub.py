"""Corpora from datasets of the Hugging Face Hub, each at one commit.

A repository is pinned first (`pin`): its revision is resolved to a commit, and the size and hash of every file are
recorded. Rows are then read from files of that commit, which the hub's client fetches into its own cache; each is
checked against the record before it is read. A file is fetched only once, even if it has many languages.

HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE and proxies work as in the hub's client.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import once, sha256
from workflow_scripts.core.unicode import without_surrogates
from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.records import rows_of_files
from workflow_scripts.corpora.rows import PlacedRow
from workflow_scripts.network.download import git_blob_sha1, with_retries
from workflow_scripts.network.failures import Repository, explain_failures

logger = logging.getLogger(__name__)


def pin(repository: str, revision: str) -> dict[str, Any]:
    """The repository at the revision: its commit, its licence as stated on its card, size and hash of each file.

    Raises UserError if the hub cannot be reached, or has no such repository or revision.
    """

    def ask() -> Any:
        return HfApi().dataset_info(repository, revision=revision, files_metadata=True)

    with explain_failures(_named(repository, revision)):
        info = with_retries(ask, repository, client_retries=False)
    _refuse_foreign_paths(repository, info)
    card = info.card_data.to_dict() if info.card_data else {}
    return {
        "repository": repository,
        "revision": revision,
        "commit": info.sha,
        "licence": without_surrogates(card.get("license")),
        "files": {
            file.rfilename: {
                "bytes": file.size,
                "sha256": file.lfs.sha256 if file.lfs else None,
                "git_blob_sha1": file.blob_id,
            }
            for file in info.siblings or []
        },
    }


def _refuse_foreign_paths(repository: str, info: Any) -> None:
    """Raise UserError if a server names a commit or a file whose path would lead out of the cache.

    The client refuses to write there, but a file that is not as recorded is deleted.
    """
    if not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):
        raise UserError(f"{repository}: the server names the commit {info.sha!r}, which is not one: check HF_ENDPOINT")
    for file in info.siblings or []:
        if file.rfilename.startswith("/") or {"", ".", ".."} & set(file.rfilename.split("/")):
            raise UserError(
                f"{repository}: the server names the file {file.rfilename!r}, which is outside it: check HF_ENDPOINT"
            )


def rows(corpus: Corpus, pinned: Mapping[str, Any] | None, downloads: Path) -> Iterator[PlacedRow]:
    """Each row with its place.

    pinned: the repository's record, as `pin` makes it. Raises UserError that names repository, file and row, if a file
        cannot be fetched, differs from the record, or has a different format.
    """
    assert pinned is not None
    repository = f"{pinned['repository']} at {pinned['commit']}"
    files = [(fetch(pinned, name), f"{repository}, {name}") for name in files_of(corpus, pinned)]
    try:
        yield from rows_of_files(corpus, files)
    except UserError as error:
        raise UserError(f"{error}; if the dataset has changed, pin another revision under corpora.revisions") from error


def origin(corpus: Corpus, pinned: Mapping[str, Any] | None, downloads: Path) -> dict[str, Any]:
    """Where the rows of `rows` come from: repository, commit, licence, and each file with its hash."""
    assert pinned is not None
    return {
        "name": pinned["repository"],
        "files": [
            {"file": name, "revision": pinned["commit"], "sha256": pinned["files"][name]["sha256"]}
            for name in files_of(corpus, pinned)
        ],
        "licences": {pinned["repository"]: pinned["licence"] or "licence not stated"},
    }


def files_of(corpus: Corpus, pinned: Mapping[str, Any]) -> list[str]:
    """The names of the files that hold the split, in order. Raises UserError if the repository has none."""
    pattern = corpus.filled(corpus.reading.path or "")
    names = sorted(name for name in pinned["files"] if fnmatchcase(name, pattern))
    if not names:
        folders = sorted({name.rpartition("/")[0] for name in pinned["files"]})
        raise UserError(
            f"{pinned['repository']} at {pinned['commit']} has no file {pattern} (its folders:"
            f" {', '.join(folders) or 'none'}): its layout has changed; pin another revision under corpora.revisions"
        )
    return names


def fetch(pinned: Mapping[str, Any], name: str) -> Path:
    """The file in the hub's cache, fetched if necessary and checked against the record. Raises UserError."""
    repository, commit, stated = pinned["repository"], pinned["commit"], pinned["files"][name]
    for again in (False, True):
        path = _download(repository, commit, name, again)
        if _is_as_stated(path, stated):
            return path
        # Out of the cache, where the next start would find it.
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        logger.warning("%s of %s differs from its record: fetching it again", name, repository)
    raise UserError(
        f"{name} of {repository} at {commit} is not the file that the hub announced (size and SHA-256): a proxy or"
        " mirror changes it; run again, or set HF_ENDPOINT to another server"
    )


def _download(repository: str, commit: str, name: str, again: bool) -> Path:
    def ask() -> str:
        logger.info("fetching %s of %s at %s", name, repository, commit)
        return hf_hub_download(repository, name, repo_type="dataset", revision=commit, force_download=again)

    with explain_failures(_named(repository, commit), name):
        return Path(with_retries(ask, f"{repository}/{name}", client_retries=True))


def _named(repository: str, revision: str) -> Repository:
    return Repository(repository, revision, kind="dataset", key="corpora.revisions")


def _is_as_stated(path: Path, stated: Mapping[str, Any]) -> bool:
    if stated["bytes"] is not None and path.stat().st_size != stated["bytes"]:
        return False
    if stated["sha256"]:
        return once(sha256, path) == stated["sha256"]
    return once(git_blob_sha1, path.resolve()) == stated["git_blob_sha1"]
