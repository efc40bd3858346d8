"""Rows of tagging: `tokens` and `tags`, of equal number."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from workflow_scripts.kinds.protocol import Row
from workflow_scripts.kinds.values import texts, unknown

FIELDS = {"tokens": pa.list_(pa.string()), "tags": pa.list_(pa.string())}


def from_record(record: Mapping[str, Any], where: str) -> Row:
    """The words and their tags."""
    return {"tokens": texts(record, "tokens", where), "tags": [tag.strip() for tag in texts(record, "tags", where)]}


def problem(row: Row, labels: Sequence[str]) -> str:
    """A sentence has words, and each has a tag of the task."""
    if not row["tokens"]:
        return "the sentence has no tokens"
    if len(row["tokens"]) != len(row["tags"]):
        return f"{len(row['tokens'])} tokens but {len(row['tags'])} tags: each token needs one"
    for position, (token, tag) in enumerate(zip(row["tokens"], row["tags"], strict=True), 1):
        if tag not in labels:
            return f"tag {tag!r} of token {position} ({token!r}) {unknown(tag, labels, 'values.tags')}"
    return ""


def oddity(row: Row) -> str:
    """A token may occasionally be empty."""
    return next((f"token {place} is empty" for place, token in enumerate(row["tokens"], 1) if not token.strip()), "")


def labels_in(row: Row) -> Sequence[str]:
    """The tags that the row has."""
    tags: Sequence[str] = row["tags"]
    return tags


def group(row: Row) -> str:
    """Each sentence by itself."""
    return str(row["id"])


def placeholder(record: Mapping[str, Any], labels: Sequence[str]) -> Row:
    """Placeholder tags, for words without them."""
    words = record.get("tokens")
    return {"tags": [labels[0]] * len(words) if isinstance(words, list) else []}
