"""Rows of entities: `tokens` and their IOB2 `tags`, of equal number.

The task's `labels` are the entity types, such as PER, ORG and LOC. The tags follow from them: O outside entities,
B-PER for the first word of a person and I-PER for each further word of the same person.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from workflow_scripts.kinds.protocol import Row
from workflow_scripts.kinds.tagging import rows as tagging
from workflow_scripts.kinds.tagging.rows import FIELDS, from_record, group, labels_in, oddity

__all__ = ["FIELDS", "OUTSIDE", "from_record", "group", "labels_in", "oddity", "placeholder", "problem", "tags_of"]

OUTSIDE = "O"


def tags_of(types: Sequence[str]) -> list[str]:
    """The tags of these entity types, in the order of the head's outputs: O, B-PER, I-PER, B-ORG, I-ORG."""
    return [OUTSIDE, *(f"{prefix}-{name}" for name in types for prefix in "BI")]


def problem(row: Row, labels: Sequence[str]) -> str:
    """A sentence has words, each has a tag of the task, and an I tag continues an entity of its type."""
    if found := tagging.problem(row, tags_of(labels)):
        return found
    before = OUTSIDE
    for position, (token, tag) in enumerate(zip(row["tokens"], row["tags"], strict=True), 1):
        if tag.startswith("I-") and before[2:] != tag[2:]:
            return (
                f"tag {tag!r} of token {position} ({token!r}) follows {before!r} and not an entity of its type, which"
                " IOB2 does not allow: state the `scheme` of the source, or set `repair: true`"
            )
        before = tag
    return ""


def placeholder(record: Mapping[str, Any], labels: Sequence[str]) -> Row:
    """Placeholder tags, for words without them."""
    return tagging.placeholder(record, tags_of(labels))
