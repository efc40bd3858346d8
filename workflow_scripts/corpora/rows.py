"""From the rows of a source to those of a corpus: ids, groups, checks, cuts and limits, the same for every source.

Rows are streamed: memory does not grow with the size of the files. So a source is a function that can be called again:
a random sample, or an id that occurs twice, takes a second pass.
"""

import hashlib
import heapq
import json
import logging
import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.description import Corpus
from workflow_scripts.kinds import part
from workflow_scripts.kinds.protocol import Row

logger = logging.getLogger(__name__)

SAMPLE_SEED = 0


class PlacedRow(NamedTuple):
    """A row of a source.

    Attributes:
        row: the row, possibly still without its `group`.
        where: its place for the reader, such as `train-en.tsv, line 7`.
        record: the record that it was made from.
        repaired: how many of its tags were repaired.
    """

    row: Row
    where: str
    record: dict[str, Any]
    repaired: int = 0


Read = Callable[[], Iterable[PlacedRow]]


def complete(read: Read, corpus: Corpus, counts: Counter[str] | None = None) -> Iterator[Row]:
    """All rows of the corpus, each checked.

    Unusual rows are kept and logged (`oddity` of the kind), but if most rows are unusual, this is an error that names
    the first one.

    Args:
        read: returns the rows of the source. It is called more than once for a sample or for repeated ids.
        corpus: their description.
        counts: gets the numbers of rows and tags that were changed, left out or unusual, before any limit.

    Raises UserError for a row that cannot be used, for ids that occur twice, for a training set in which all rows have
    the same label, and if there are no rows.
    """
    counts = Counter() if counts is None else counts
    rows = _checked(read, corpus, counts)
    limit = corpus.limit
    if limit is None:
        kept: Iterable[Row] = rows
    elif corpus.split != "train":
        kept = _sample_by_id(rows, limit)
    else:
        chosen = _sample(sum(1 for _ in rows), limit)
        again = _placed(read, corpus, Counter())
        kept = (placed.row for position, placed in enumerate(again) if position in chosen)
    return _with_two_labels(kept, corpus) if corpus.split == "train" else iter(kept)


def _checked(read: Read, corpus: Corpus, counts: Counter[str]) -> Iterator[Row]:
    """The rows of the split, each checked; what was unusual is logged after the last one."""
    kind = part(corpus.kind, "rows")
    number, first_unusual = 0, ""
    for row, where, _, repaired in _placed(read, corpus, counts):
        if what := kind.problem(row, corpus.labels):
            raise UserError(f"{where}: {what}")
        if what := kind.oddity(row):
            counts["unusual rows"] += 1
            first_unusual = first_unusual or f"{where}: {what}"
        if repaired:
            counts["repaired tags"] += repaired
            counts["rows with repaired tags"] += 1
        number += 1
        yield row
    if not number:
        raise UserError(f"{corpus.name}: the source has no rows of this split and language{_of_cut(corpus)}")
    unusual = counts["unusual rows"]
    if 2 * unusual > number:
        raise UserError(
            f"{first_unusual}; {unusual} of {number} rows are like this: is it the right file, and complete?"
        )
    if unusual:
        logger.warning(
            "%s: %d of %d rows are unusual and were kept, the first: %s", corpus.name, unusual, number, first_unusual
        )
    if counts["dropped rows"]:
        logger.warning("%s: left out %d rows with %s", corpus.name, counts["dropped rows"], corpus.reading.drop)
    if counts["repaired tags"]:
        logger.warning(
            "%s: repaired %d tags in %d of %d rows",
            *(corpus.name, counts["repaired tags"], counts["rows with repaired tags"], number),
        )


def _of_cut(corpus: Corpus) -> str:
    if corpus.kept is None:
        return ""
    share = sum(stop - start for start, stop in corpus.kept)
    return (
        f": the cut of {share} % left it empty, since rows of one group stay together: choose another `share` or"
        " `group_by`"
    )


def _placed(read: Read, corpus: Corpus, counts: Counter[str]) -> Iterator[PlacedRow]:
    """The rows of the split, with unique ids and their groups."""
    with_ids = _with_unique_ids(read, corpus, counts)
    return _of_split(_without_dropped(_with_groups(with_ids, corpus), corpus, counts), corpus)


def _with_groups(read: Iterable[PlacedRow], corpus: Corpus) -> Iterator[PlacedRow]:
    """The rows with their groups.

    A group of a parallel corpus is named by the id of its first row: the same in all languages, unlike the text that
    its rows share. So a cut takes the same rows in every language, and no translation of a training row is tested.
    """
    kind = part(corpus.kind, "rows")
    first: dict[int, str] = {}  # by the hash of what rows share: a million contexts would take gigabytes
    for placed in read:
        row = placed.row
        if "group" not in row:
            group = kind.group(row)
            shared = group if not corpus.parallel else first.setdefault(hash(group), row["id"])
            row["group"] = shared
        yield placed


def _with_unique_ids(read: Read, corpus: Corpus, counts: Counter[str]) -> Iterator[PlacedRow]:
    """Refuse ids that occur twice, or number them: `7`, `7-2`, `7-3`; equal rows are then left out.

    Only hashes of the ids are kept, 8 bytes each: 10 million ids as a set of strings would take 1.3 GB.
    """
    hashes = array("q")
    if corpus.reading.repeated_ids == "refuse":
        for placed in read():
            hashes.append(hash(placed.row["id"]))
            yield placed
        if repeated := _repeated(hashes):
            _refuse_repeated(read, repeated)
        return
    hashes.extend(hash(placed.row["id"]) for placed in read())
    repeated, known = _repeated(hashes), set(hashes)
    contents: dict[str, list[Row]] = {}
    for placed in read():
        original = placed.row["id"]
        if hash(original) not in repeated:
            yield placed
            continue
        same_id = contents.setdefault(original, [])
        if placed.row in same_id:
            counts["rows that occur twice"] += 1
            continue
        same_id.append(dict(placed.row))
        if len(same_id) == 1:
            yield placed
            continue
        number = len(same_id)
        while hash(unique := f"{original}-{number}") in known:
            number += 1
        known.add(hash(unique))
        yield placed._replace(row={**placed.row, "id": unique})


def _repeated(hashes: "array[int]") -> set[int]:
    """The hashes that occur more than once."""
    ordered = np.sort(np.frombuffer(hashes, dtype=np.int64))
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _refuse_repeated(read: Read, repeated: set[int]) -> None:
    """Raise UserError for the first id that occurs twice. Equal hashes of different ids are not an error."""
    first: dict[str, str] = {}
    for row, where, *_ in read():
        if hash(row["id"]) not in repeated:
            continue
        if row["id"] in first:
            raise UserError(
                f"{where}: the id {row['id']!r} occurs twice, first in {first[row['id']]}: name a column with unique"
                " ids under columns.id, or set repeated_ids: number"
            )
        first[row["id"]] = where


def _without_dropped(read: Iterable[PlacedRow], corpus: Corpus, counts: Counter[str]) -> Iterator[PlacedRow]:
    """Leave out rows by `drop`.

    From training only: benchmarks score such rows, so without them a test score would not compare with published ones.
    """
    drop = corpus.reading.drop if corpus.split == "train" else {}
    for placed in read:
        if any(str(_of_row(placed, name)).strip() == text for name, text in drop.items()):
            counts["dropped rows"] += 1
        else:
            yield placed


def _of_row(placed: PlacedRow, name: str) -> Any:
    """The value of a column of the row. Raises UserError if rows have no such column."""
    if name not in placed.row:
        raise UserError(f"{placed.where}: drop names {name!r}, but the columns of a row are {', '.join(placed.row)}")
    return placed.row[name]


def _of_split(read: Iterable[PlacedRow], corpus: Corpus) -> Iterator[PlacedRow]:
    """The rows on this side of all cuts; all rows without one.

    The digest of the value that the row's group shares decides. So the rows of one group are on one side, and the cut
    does not depend on the other rows of the file or their order.
    """
    for placed in read:
        if corpus.kept is not None:
            digest = hashlib.sha256(_cut_key(placed, corpus).encode()).digest()
            percent = int.from_bytes(digest[:8], "big") % 100
            if not any(start <= percent < stop for start, stop in corpus.kept):
                continue
        yield placed


def _cut_key(placed: PlacedRow, corpus: Corpus) -> str:
    """What decides on which side of a cut the row is."""
    row, where, record, _ = placed
    if corpus.group_by:
        values = (fields.get(name) for name in corpus.group_by for fields in (record, row))
        key = next((str(value) for value in values if value is not None and value != ""), None)  # 0 is a value
        if key is None:
            raise UserError(
                f"{where}: the split is cut by {' or '.join(corpus.group_by)}, which is missing or empty in this"
                f" record; its columns are {', '.join(map(str, record))}"
            )
        return key
    if row["group"] != row["id"] or corpus.parallel:
        return str(row["group"])
    # A row without a group. Its id may be its number, which depends on the order of the file, so its content decides.
    return json.dumps({name: value for name, value in row.items() if name not in ("id", "group")}, sort_keys=True)


def _sample(number: int, limit: int) -> set[int]:
    """The positions of a random sample: always the same, and a subset of that of any greater limit."""
    order = array("I", range(number))
    random.Random(SAMPLE_SEED).shuffle(order)  # type: ignore[arg-type]
    return set(order[:limit])


def _sample_by_id(rows: Iterable[Row], limit: int) -> list[Row]:
    """A random sample in file order: always the same, and a subset of that of any greater limit.

    The ids determine it, so that the samples of parallel sets have the same ids, regardless of the order of their
    files. The first rows would not be a fair sample: many files are sorted by label, such as the test sets of SIB-200.
    """
    drawn = ((hashlib.sha256(row["id"].encode()).digest(), place, row) for place, row in enumerate(rows))
    kept = heapq.nsmallest(limit, drawn, key=lambda one: one[:2])
    return [row for _, _, row in sorted(kept, key=lambda one: one[1])]


def _with_two_labels(rows: Iterable[Row], corpus: Corpus) -> Iterator[Row]:
    """The rows of a training set. Raises UserError after the last one if all have the same label."""
    labels_in = getattr(part(corpus.kind, "rows"), "labels_in", None)
    number = 0
    seen: set[Any] = set()
    for row in rows:
        number += 1
        if labels_in is not None and len(seen) < 2:
            seen.update(labels_in(row))
        yield row
    if len(seen) == 1:
        way_out = "check the label column, or use another training set"
        if corpus.limit == number:
            way_out = "raise the limit of training rows"
        raise UserError(
            f"{corpus.name}: all {number} rows have the label {seen.pop()!r}, so that there is nothing to learn:"
            f" {way_out}"
        )
