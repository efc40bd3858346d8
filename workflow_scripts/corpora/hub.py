"""Corpora from the parquet repositories of the Hugging Face Hub, each at one commit.

A repository is pinned first (`pin`): its revision is resolved to a commit, and the size and hash of every file are
recorded. Rows are then read from files of that commit, which the hub's client fetches into its own cache; each is
checked against the record before it is read, so that a file is fetched once however many languages are in it.

HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE and proxies are taken as the hub's client takes them.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi, hf_hub_download

from workflow_scripts.corpora.schema import Row
from workflow_scripts.corpora.shared import (
    checked,
    gold_answers,
    questions_of_split,
    without_halves,
    without_placeholders,
)
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.files import sha256
from workflow_scripts.network.download import git_blob_sha1, with_retries
from workflow_scripts.network.failures import Repository, explain_failures

logger = logging.getLogger(__name__)

# The columns that each task's files must have. A pair's are premise and hypothesis, or what plays their part.
QUESTION_COLUMNS = ("id", "title", "context", "question", "answers")
COLUMNS = {
    "xnli": ("premise", "hypothesis", "label"),
    "pawsx": ("sentence1", "sentence2", "label"),
    "xquad": QUESTION_COLUMNS,
    "tydiqa": QUESTION_COLUMNS,
}
OPTIONAL = {"title"}  # XQuAD has none.

# What TyDiQA's ids begin with, by language.
TYDIQA_NAMES = {
    "ar": "arabic",
    "bn": "bengali",
    "en": "english",
    "fi": "finnish",
    "id": "indonesian",
    "ko": "korean",
    "ru": "russian",
    "sw": "swahili",
    "te": "telugu",
}


def pin(repository: str, revision: str) -> dict[str, Any]:
    """What the repository is at the revision: its commit, its licence as its card says, size and hash of each file.

    Raises UserError if the hub cannot be asked, or has no such repository or revision.
    """

    def ask() -> Any:
        return HfApi().dataset_info(repository, revision=revision, files_metadata=True)

    with explain_failures(_named(repository, revision)):
        info = with_retries(ask, repository, client_retries=False)
    card = info.card_data.to_dict() if info.card_data else {}
    return {
        "repository": repository,
        "revision": revision,
        "commit": info.sha,
        "licence": without_halves(card.get("license")),
        "files": {
            file.rfilename: {
                "bytes": file.size,
                "sha256": file.lfs.sha256 if file.lfs else None,
                "git_blob_sha1": file.blob_id,
            }
            for file in info.siblings or []
            if file.rfilename.endswith(".parquet")
        },
    }


def rows(settings: Mapping[str, Any]) -> list[Row]:
    """Read one split of one task in one language: the same rows as `xtreme.rows` gives of XTREME's folder.

    Settings:
        task, kind, labels, language, split, limit, whole: as for `xtreme.rows`.
        folder, part: the files are `{folder}/{part}-*.parquet` of the repository.
        pinned: the repository's record, as `pin` makes it.

    Raises UserError that names repository, file and row, if a file cannot be had, is not the recorded one, or has
    changed its form.
    """
    task, split, whole = settings["task"], settings["split"], settings.get("whole", False)
    where = f"{settings['pinned']['repository']} ({settings['folder']}, {settings['part']})"
    if settings["kind"] == "classification":
        read = _pairs(settings)
        if task == "pawsx" and split == "train":
            read = without_placeholders(read, where)
    else:
        read = questions_of_split(_questions(settings), task, split, whole)
    return checked(read, settings, where)


def origin(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where the rows of `rows` come from: repository, commit, licence, and each file with its hash."""
    pinned = settings["pinned"]
    return {
        "name": pinned["repository"],
        "files": [
            {"file": name, "revision": pinned["commit"], "sha256": pinned["files"][name]["sha256"]}
            for name in files_of(settings)
        ],
        "licences": {pinned["repository"]: pinned["licence"] or "licence not stated"},
    }


def files_of(settings: Mapping[str, Any]) -> list[str]:
    """The names of the files that hold the split, in order. Raises UserError if the repository has none."""
    pinned, start = settings["pinned"], f"{settings['folder']}/{settings['part']}-"
    names = sorted(name for name in pinned["files"] if name.startswith(start))
    if not names:
        folders = sorted({name.rpartition("/")[0] for name in pinned["files"]})
        raise UserError(
            f"{pinned['repository']} at {pinned['commit']} has no file {start}*.parquet (its folders:"
            f" {', '.join(folders) or 'none'}): its layout has changed; pin another revision under corpora.revisions"
        )
    return names


def fetch(pinned: Mapping[str, Any], name: str) -> Path:
    """The file in the hub's cache, fetched if need be and checked against the record. Raises UserError."""
    repository, commit, stated = pinned["repository"], pinned["commit"], pinned["files"][name]
    for again in (False, True):
        path = _download(repository, commit, name, again)
        if _is_as_stated(path, stated):
            return path
        # Out of the cache, where the next start would find it.
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        logger.warning("%s of %s is not as recorded: it is fetched anew", name, repository)
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
    return Repository(repository, revision, kind="data set", key="corpora.revisions")


def _is_as_stated(path: Path, stated: Mapping[str, Any]) -> bool:
    if stated["bytes"] is not None and path.stat().st_size != stated["bytes"]:
        return False
    if stated["sha256"]:
        return sha256(path) == stated["sha256"]
    return git_blob_sha1(path.resolve()) == stated["git_blob_sha1"]


def _records(settings: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str, pa.Schema]]:
    """Each record of the split's files: its columns, its place for the reader, and the file's schema."""
    pinned, columns = settings["pinned"], COLUMNS[settings["task"]]
    number = 0
    for name in files_of(settings):
        path = fetch(pinned, name)
        where = f"{pinned['repository']} at {pinned['commit']}, {name}"
        try:
            schema = pq.read_schema(path)
            _check_schema(schema, columns, settings["kind"], where)
            table = pq.read_table(path, columns=[name for name in columns if name in schema.names])
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{where}: not a parquet file ({error}): pin another revision") from error
        try:
            records = table.to_pylist()
        except UnicodeDecodeError as error:
            bad = number + _first_undecodable(table)
            raise UserError(f"{where}, row {bad}: not UTF-8 ({error.reason}): pin another revision") from error
        for record in records:
            number += 1
            yield record, f"{where}, row {number}", schema


def _first_undecodable(table: pa.Table) -> int:
    """The first row, counted from 1, with a text that is not UTF-8. A row at a time takes 15 times as long."""
    for place in range(table.num_rows):
        try:
            table.slice(place, 1).to_pylist()
        except UnicodeDecodeError:
            return place + 1
    raise AssertionError("every row can be decoded")


def _check_schema(schema: pa.Schema, columns: tuple[str, ...], kind: str, where: str) -> None:
    """Refuse a file whose columns are not those that this project was written for."""
    missing = [name for name in columns if name not in schema.names and name not in OPTIONAL]
    wrong = [name for name in columns if name in schema.names and not _fits(schema.field(name).type, name)]
    if missing or wrong:
        problem = f"no column {', '.join(missing)}" if missing else f"another type in column {', '.join(wrong)}"
        raise UserError(
            f"{where}: {problem} (it has {', '.join(f'{field.name}: {field.type}' for field in schema)}): the data set"
            " has changed; pin an earlier revision under corpora.revisions"
        )


def _fits(found: pa.DataType, name: str) -> bool:
    if name == "label":
        return pa.types.is_integer(found)
    if name == "answers":
        names = {found.field(index).name for index in range(found.num_fields)} if pa.types.is_struct(found) else set()
        return names >= {"text", "answer_start"}
    return pa.types.is_string(found) or pa.types.is_large_string(found)


def _label_names(schema: pa.Schema, labels: list[str]) -> list[str]:
    """The names of the numbers in the label column: as the file says, or else those of the task in their order."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return list(features["label"]["names"])
    except (KeyError, TypeError, ValueError):
        return labels


def _pairs(settings: Mapping[str, Any]) -> Iterator[tuple[Row, str]]:
    first, second, _ = COLUMNS[settings["task"]]
    for number, (record, where, schema) in enumerate(_records(settings), 1):
        names, label = _label_names(schema, settings["labels"]), record["label"]
        if label is None or not 0 <= label < len(names):
            raise UserError(f"{where}: label {label} is not one of 0 to {len(names) - 1}: pin another revision")
        # XTREME's scripts strip the texts, too.
        texts = {"text": (record[first] or "").strip(), "text_pair": (record[second] or "").strip()}
        yield {"id": str(number), **texts, "label": names[label]}, where


def _questions(settings: Mapping[str, Any]) -> Iterator[tuple[Row, str, str]]:
    """Each question of the language: its row, its place, and its article, which is the title or else the paragraph."""
    prefix = f"{TYDIQA_NAMES[settings['language']]}-" if settings["task"] == "tydiqa" else ""
    for record, where, _ in _records(settings):
        if not str(record["id"]).startswith(prefix):
            continue
        answers = [
            {"text": text, "answer_start": start}
            for text, start in zip(record["answers"]["text"], record["answers"]["answer_start"], strict=True)
        ]
        row = {
            "id": str(record["id"]),
            "context": record["context"],
            "question": record["question"],
            "answers": gold_answers(record["context"], answers, f"{where}, question {record['id']}"),
        }
        yield row, where, record.get("title") or record["context"]
