"""From the rows of a source to those of a corpus: ids, groups, checks, cuts and limits, the same for every source."""

import hashlib
import logging
import random
from collections.abc import Iterable, Iterator
from typing import Any

from workflow_scripts.corpora.description import Corpus
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.kinds import part
from workflow_scripts.kinds.protocol import Row

logger = logging.getLogger(__name__)

SAMPLE_SEED = 0

# A row, its place for the reader such as `train-en.tsv, line 7`, and the record that it was made from.
PlacedRow = tuple[Row, str, dict[str, Any]]


def complete(read: Iterable[PlacedRow], corpus: Corpus) -> list[Row]:
    """All rows of the corpus, each checked.

    Unusual rows are kept and logged (`oddity` of the kind), but if most rows are unusual, the first one is refused.
    Raises UserError for a row that cannot be used, for ids that are there twice, and if there are no rows.
    """
    kind = part(corpus.kind, "rows")
    found, odd = [], []
    for row, where, _ in _of_split(_without_dropped(_with_unique_ids(read, corpus), corpus), corpus):
        row.setdefault("group", kind.group(row))
        if what := kind.problem(row, corpus.labels):
            raise UserError(f"{where}: {what}")
        if what := kind.oddity(row):
            odd.append(f"{where}: {what}")
        found.append(row)
    if not found:
        raise UserError(f"{corpus.name}: the source has no rows of this split and language")
    if 2 * len(odd) > len(found):
        raise UserError(f"{odd[0]}; {len(odd)} of {len(found)} rows are like this: is it the right file, and complete?")
    if odd:
        logger.warning("%s: %d of %d rows are unusual, the first: %s", corpus.name, len(odd), len(found), odd[0])
    return _limited(found, corpus)


def _with_unique_ids(read: Iterable[PlacedRow], corpus: Corpus) -> Iterator[PlacedRow]:
    """Refuse ids that are there twice, or number them: `7`, `7-2`, `7-3`; equal rows are then left out."""
    first: dict[str, str] = {}
    if corpus.reading.repeated_ids == "refuse":
        for row, where, record in read:
            if row["id"] in first:
                raise UserError(
                    f"{where}: the id {row['id']!r} is there twice, first in {first[row['id']]}: name a column with"
                    " unique ids under columns.id, or set repeated_ids: number"
                )
            first[row["id"]] = where
            yield row, where, record
        return
    everything = list(read)
    ids = {row["id"] for row, _, _ in everything}
    contents: dict[str, list[Row]] = {}
    for row, where, record in everything:
        original = row["id"]
        same_id = contents.setdefault(original, [])
        if row in same_id:
            continue
        same_id.append(row)
        if len(same_id) == 1:
            yield row, where, record
            continue
        number = len(same_id)
        while (unique := f"{original}-{number}") in ids:
            number += 1
        ids.add(unique)
        yield {**row, "id": unique}, where, record


def _without_dropped(read: Iterable[PlacedRow], corpus: Corpus) -> Iterator[PlacedRow]:
    """Leave out rows by `drop`, and log how many.

    From training only: benchmarks score such rows, so without them a test score would not compare with published ones.
    """
    dropped = 0
    for row, where, record in read:
        if corpus.split == "train" and any(
            str(row[name]).strip() == text for name, text in corpus.reading.drop.items()
        ):
            dropped += 1
        else:
            yield row, where, record
    if dropped:
        logger.warning("%s: left out %d rows with %s", corpus.name, dropped, corpus.reading.drop)


def _of_split(read: Iterable[PlacedRow], corpus: Corpus) -> Iterator[PlacedRow]:
    """The rows of one side of a cut; all rows without one."""
    for row, where, record in read:
        if corpus.cut is None or _is_held_out(row, record, corpus) == (corpus.cut == "held_out"):
            yield row, where, record


def _is_held_out(row: Row, record: dict[str, Any], corpus: Corpus) -> bool:
    """Whether a cut takes the row.

    The digest of what the row's group shares decides. So the rows of one group are on one side, and the cut stays the
    same whatever else is in the file.
    """
    if corpus.group_by:
        key = next((str(record[name]) for name in corpus.group_by if record.get(name)), None)
        if key is None:
            raise UserError(f"{corpus.name}: the split is cut by {', '.join(corpus.group_by)}, which a row lacks")
    else:
        key = row.get("group") or part(corpus.kind, "rows").group(row)
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100 < round(100 * corpus.share)


def _limited(found: list[Row], corpus: Corpus) -> list[Row]:
    """At most `limit` rows: see `Corpus.limit`."""
    if corpus.limit is None:
        return found
    if corpus.split != "train":
        return found[: corpus.limit]
    order = list(range(len(found)))
    random.Random(SAMPLE_SEED).shuffle(order)
    return [found[position] for position in sorted(order[: corpus.limit])]
