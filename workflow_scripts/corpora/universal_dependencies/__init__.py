"""UD-POS from Universal Dependencies itself, as XTREME made it: its files, verified, converted by XTREME's rules.

    files.tsv ──> a folder with the release, or UD's repositories ──> tagged sentences

`files.tsv` lists the files: language, split, release, treebank, repository (some were renamed since), file, bytes
(where known), git's SHA-1, and how many sentences XTREME keeps of it. They are of release 2.5, and of 2.7 for lt pl ro
uk wo. Each treebank has its own licence, which its README states; some forbid commercial use.
"""

import csv
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub.errors import OfflineModeIsEnabled

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import written
from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.rows import PlacedRow
from workflow_scripts.corpora.universal_dependencies.conllu import tagged_sentences
from workflow_scripts.network.download import TIMEOUT, fetch_file, git_blob_sha1, with_retries
from workflow_scripts.network.failures import reason

logger = logging.getLogger(__name__)

SPLITS = {"train": "train", "validation": "dev", "test": "test"}
UNSTATED = "licence not stated"
READMES = ("README.md", "README.txt")
# Each treebank is a repository with a tag for every release.
TREEBANKS = "https://raw.githubusercontent.com/UniversalDependencies"


@dataclass(frozen=True)
class File:
    """One line of `files.tsv`."""

    language: str
    split: str
    release: str
    treebank: str
    repository: str
    name: str
    size: int | None
    git_blob: str
    sentences: int


def listed_files() -> list[File]:
    """All files that XTREME's UD-POS is made of."""
    with Path(__file__).with_name("files.tsv").open(newline="", encoding="utf-8") as file:
        return [
            File(
                row["language"],
                row["split"],
                row["release"],
                row["treebank"],
                row["repository"],
                row["file"],
                int(row["bytes"]) if row["bytes"] else None,
                row["git_blob_sha1"],
                int(row["sentences"]),
            )
            for row in csv.DictReader(file, delimiter="\t")
        ]


def files_of(language: str, split: str) -> list[File]:
    """The files of one split in one language, in the order in which they are joined. Raises UserError if none is."""
    listed = listed_files()
    chosen = [file for file in listed if (file.language, file.split) == (language, SPLITS[split])]
    if not chosen:
        known = sorted({file.language for file in listed if file.split == SPLITS[split]})
        raise UserError(f"XTREME's UD-POS has no {split} set in {language!r}; it has {' '.join(known)}")
    return sorted(chosen, key=lambda file: file.name)


def rows(corpus: Corpus, pinned: Mapping[str, Any] | None, downloads: Path) -> Iterator[PlacedRow]:
    """Each sentence with its place.

    The corpus's `reading.path` is the folder that holds the releases; without one, `reading.url` is where the
    repositories of the treebanks are served at their tags, and `downloads` keeps what is fetched from there.

    Ids are the language and the sentence's number, counted over the joined files, such as `de-17`.

    Raises UserError if a file is missing, cannot be fetched, is not the one that XTREME was made from, or is malformed.
    """
    number = 0
    for file in files_of(corpus.language, corpus.split):
        text = locate(file, corpus, downloads).read_bytes().decode("utf-8")
        kept = list(tagged_sentences(text, file.language, f"{file.treebank}/{file.name}"))
        if len(kept) != file.sentences:
            raise UserError(f"{file.name}: kept {len(kept)} sentences, XTREME {file.sentences}: please report this bug")
        for tokens, tags, where in kept:
            number += 1
            row = {"id": f"{corpus.language}-{number}", "tokens": tokens, "tags": tags}
            yield PlacedRow(row, where, row)


def origin(corpus: Corpus, pinned: Mapping[str, Any] | None, downloads: Path) -> dict[str, Any]:
    """Where the rows of `rows` come from: the files with their hashes, and the licence of each treebank."""
    files = files_of(corpus.language, corpus.split)
    licences = {file.treebank: licence(file, corpus, downloads) for file in files}
    return {
        "name": "Universal Dependencies",
        "files": [
            {"file": f"{file.treebank}/{file.name}", "revision": file.release, "git_blob_sha1": file.git_blob}
            for file in files
        ],
        "licences": licences,
    }


def locate(file: File, corpus: Corpus, downloads: Path) -> Path:
    """The verified file, fetched if need be. Raises UserError."""
    path = corpus.reading.path
    if not path:
        target = _cached(file, downloads) / file.name
        fetch_file(f"{_repository(file, corpus)}/{file.name}", target, file.size, file.git_blob)
        return target
    folders = _folders(file, Path(path))
    found = next((folder / file.name for folder in folders if (folder / file.name).is_file()), None)
    if found is None:
        raise UserError(
            f"{file.treebank}/{file.name} of release {file.release} is not in {path}: unpack"
            f" ud-treebanks-{file.release.replace('r', 'v')}.tgz there, or leave corpora.universal_dependencies.path"
            " out to fetch each file"
        )
    if (digest := git_blob_sha1(found)) != file.git_blob:
        raise UserError(
            f"{found} is not the file that XTREME was made from (git's SHA-1 {digest}, expected {file.git_blob}): take"
            f" release {file.release} of {file.treebank}"
        )
    return found


def _folders(file: File, path: Path) -> list[Path]:
    """Where a file may be: as the release unpacks, one folder per treebank, or all files in one folder."""
    release = f"ud-treebanks-{file.release.replace('r', 'v')}"
    return [path / release / file.treebank, path / file.treebank, path]


def _repository(file: File, corpus: Corpus) -> str:
    return f"{(corpus.reading.url or TREEBANKS).rstrip('/')}/{file.repository}/{file.release}"


def _cached(file: File, downloads: Path) -> Path:
    return downloads / "universal_dependencies" / file.release / file.treebank


def licence(file: File, corpus: Corpus, downloads: Path) -> str:
    """The licence that the treebank's README states, such as `CC BY-SA 4.0`. Without a README it is `UNSTATED`."""
    path = corpus.reading.path
    folders = _folders(file, Path(path))[:2] if path else [_cached(file, downloads)]
    if not path:
        _fetch_readme(_repository(file, corpus), folders[0])
    for readme in (folder / name for folder in folders for name in READMES):
        if readme.is_file():
            stated = re.search(r"^License:[ \t]*(\S.*)$", readme.read_text("utf-8", errors="replace"), re.MULTILINE)
            if stated:
                return stated[1].strip()
    return UNSTATED


def _fetch_readme(repository: str, folder: Path) -> None:
    """Fetch the README of a treebank, unless it is there."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    if any((folder / name).is_file() for name in READMES):
        return

    def asked(name: str) -> bytes | None:
        answer = get_session().get(f"{repository}/{name}", follow_redirects=True, timeout=TIMEOUT)
        if answer.status_code == httpx2.codes.NOT_FOUND:
            return None
        hf_raise_for_status(answer)
        return answer.content

    for name in READMES:
        try:
            content = with_retries(partial(asked, name), f"{folder.name}/{name}", client_retries=False)
        except (httpx2.HTTPError, OfflineModeIsEnabled) as error:
            logger.warning("%s: no README (%s): its licence stays unnamed", folder.name, reason(error))
            return
        if content is not None:
            with written(folder / name) as temporary:
                temporary.write_bytes(content)
            return
