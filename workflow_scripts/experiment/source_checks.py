"""Checks before reading that the splits of a source can be read and have different rows."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from workflow_scripts.corpora.description import SPLITS, Cut, Source, Split, SplitReading

# The keys without which a source cannot be read. The last one names the file of a language and split.
NEEDED: dict[str, tuple[str, ...]] = {
    "files": ("path",),
    "url": ("url",),
    "hub": ("repository", "path"),
    "mini": ("corpus",),
    "universal_dependencies": (),
}
WITH_PLACEHOLDERS = ("files", "url", "hub")

Entry = str | SplitReading


def problem_of(source: Source, languages: Mapping[Split, Sequence[str]]) -> str:
    """What is wrong with the splits of a source, after the key; empty if nothing is. `languages`: of each split."""
    for split in SPLITS:
        entry = source.splits.get(split)
        if entry is None:
            return (
                f"splits.{split}: this key is required; it can be cut from another split: {{from: train, share: 0.1}}"
            )
        problem = (
            _of_cut(source, split, entry) if isinstance(entry, Cut) else _of_entry(source, entry, languages[split])
        )
        if problem:
            return f"splits.{split}.{problem}"
    files = {
        split: _files(source, entry, split) for split, entry in source.splits.items() if not isinstance(entry, Cut)
    }
    for other, split in itertools.combinations(SPLITS, 2):
        if split in files and files[split] == files.get(other):
            return f"splits: {other} and {split} are the same rows; put {{split}} into {NEEDED[source.type][-1]}"
    return ""


def _of_cut(source: Source, split: Split, cut: Cut) -> str:
    other = source.splits.get(cut.cut_from)
    if cut.cut_from == split:
        return "from: a split cannot be cut from itself"
    if other is None:
        return f"from: the source has no split {cut.cut_from}"
    if isinstance(other, Cut):
        return f"from: {cut.cut_from} is itself cut from {other.cut_from}; cut both from {other.cut_from}"
    cuts = [entry for entry in source.splits.values() if isinstance(entry, Cut) and entry.cut_from == cut.cut_from]
    if sum(round(100 * entry.share) for entry in cuts) >= 100:
        return f"share: nothing is left of {cut.cut_from}"
    if any(entry.group_by != cut.group_by for entry in cuts):
        return f"group_by: the cuts of {cut.cut_from} must have the same"
    return ""


def _of_entry(source: Source, entry: Entry, languages: Sequence[str]) -> str:
    if getattr(entry, "task", None):
        return ""
    for key in NEEDED[source.type]:
        if _value(source, entry, key) is None:
            return f"{key}: a source of the type {source.type} needs this key, in the source or in the split"
    is_one = source.type in WITH_PLACEHOLDERS and not any("{language}" in text for text in _patterns(source, entry))
    if is_one and len(languages) > 1:
        return f"{NEEDED[source.type][-1]}: all languages are the same rows; put {{language}} into it"
    return ""


def _value(source: Source, entry: Entry, key: str) -> Any:
    """A key of a split: its own, or else its source's."""
    own = isinstance(entry, SplitReading) and key in entry.model_fields_set
    return getattr(entry if own else source, key)


def _patterns(source: Source, entry: Entry) -> list[str]:
    """The texts in which `{language}` and `{split}` are substituted, and the other keys that distinguish rows."""
    texts = [str(_value(source, entry, key)) for key in ("repository", "revision", "path", "url")]
    return [*texts, *_value(source, entry, "where").values(), *_value(source, entry, "codes").values()]


def _files(source: Source, entry: Entry, split: Split) -> list[str]:
    if source.type not in WITH_PLACEHOLDERS:
        return [split]
    if isinstance(entry, SplitReading) and entry.task:
        return [entry.task, split]
    name = entry if isinstance(entry, str) else entry.name or split
    return [text.replace("{split}", name) for text in _patterns(source, entry)]
