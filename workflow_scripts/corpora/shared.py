"""What XTREME's folders and the Hugging Face Hub have in common: samples, held-out articles, answers, ids.

Each works on a row with the text that names its place to the reader, such as `train-en.tsv, line 7`. Both sources go
through here, so that the same corpus gives the same rows whichever way it comes.
"""

import hashlib
import logging
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from workflow_scripts.corpora.schema import ABSENT, Row, check_row, oddity
from workflow_scripts.experiment.errors import UserError

logger = logging.getLogger(__name__)

STRIPPED = "XTREME's scripts strip test sets of their labels: put the labelled file of the corpus's own release here"
PLACEHOLDER = "NS"  # What PAWS-X has for a sentence that was not translated.
HELD_OUT_PERCENT = 10
SAMPLE_SEED = 0
HALVES = re.compile("[\ud800-\udfff]")  # halves of surrogate pairs, which together encode one character
REPLACEMENT = "\ufffd"
TYPES: dict[type, str] = {list: "list", str: "text", int: "number"}  # of the fields in SQuAD's format

Value = TypeVar("Value")


def checked(read: Iterable[tuple[Row, str]], settings: Mapping[str, Any], where: str) -> list[Row]:
    """All rows, each checked, then at most `limit` of them. Raises UserError for a row of no use, or for no row.

    Odd rows are kept and logged (see `schema.oddity`), but if most rows are odd, the first one is refused.

    `settings` has the task's `kind` and `labels`, the `split` and the `limit`, which may be None. Of train a random
    sample in file order, always the same, and within that of any greater limit; of validation and test the first rows,
    so that parallel sets stay parallel.
    """
    found, odd = [], []
    for row, row_where in read:
        check_row(row, settings["kind"], settings["labels"], row_where)
        if what := oddity(row, settings["kind"]):
            odd.append(f"{row_where}: {what}")
        found.append(row)
    if not found:
        raise UserError(f"{where} holds no rows of the {settings['split']} split: fetch it again")
    if 2 * len(odd) > len(found):
        raise UserError(f"{odd[0]}; {len(odd)} of {len(found)} rows are like this: is it the right file, and whole?")
    if odd:
        logger.warning("%s: %d of %d rows are odd, the first: %s", where, len(odd), len(found), odd[0])
    return found if settings["limit"] is None else _limited(found, settings["split"], settings["limit"])


def _limited(found: list[Row], split: str, limit: int) -> list[Row]:
    if split != "train":
        return found[:limit]
    order = list(range(len(found)))
    random.Random(SAMPLE_SEED).shuffle(order)
    return [found[position] for position in sorted(order[:limit])]


def without_placeholders(pairs: Iterable[tuple[Row, str]], corpus: str) -> Iterator[tuple[Row, str]]:
    """Drop pairs that PAWS-X has no text for, and log how many.

    From training only: XTREME scores them, so without them a test score would not compare with published ones.
    """
    dropped = 0
    for row, where in pairs:
        if PLACEHOLDER in (row["text"].strip(), row["text_pair"].strip()):
            dropped += 1
        else:
            yield row, where
    if dropped:
        logger.warning("%s: dropped %d rows with the placeholder %s for a sentence", corpus, dropped, PLACEHOLDER)


def questions_of_split(
    questions: Iterable[tuple[Row, str, str]], task: str, split: str, whole: bool
) -> Iterator[tuple[Row, str]]:
    """The questions with unique ids; of TyDiQA's training file those of one split, or all if it is to be `whole`.

    Each question comes with its place and its article.
    """
    everything = with_unique_ids(questions)
    if task != "tydiqa" or split == "test" or whole:
        return ((row, where) for row, where, _ in everything)
    held_out = split == "validation"
    return ((row, where) for row, where, article in everything if is_held_out(article) == held_out)


def with_whole_characters(questions: Iterable[tuple[Row, str, str]], corpus: str) -> Iterator[tuple[Row, str, str]]:
    """Replace each half of a character by U+FFFD, and log how many questions have one.

    JSON can hold half a surrogate pair (`\\ud83d` of an emoji that was cut in two), UTF-8 cannot. The starts of answers
    stay right, since both are one code point.
    """
    first, count, total = "", 0, 0
    for row, where, article in questions:
        total += 1
        repaired = without_halves(row)
        if repaired != row:
            first, count = first or where, count + 1
        yield repaired, where, without_halves(article)
    if count:
        logger.warning(
            "%s: half a character (a lone surrogate) was replaced by U+FFFD in %d of %d questions, the first: %s",
            *(corpus, count, total, first),
        )


def without_halves(value: Any) -> Any:
    """A value of JSON with U+FFFD in place of each half of a surrogate pair in its texts."""
    if isinstance(value, str):
        return HALVES.sub(REPLACEMENT, value)
    if isinstance(value, list):
        return [without_halves(item) for item in value]
    if isinstance(value, dict):
        return {without_halves(key): without_halves(item) for key, item in value.items()}
    return value


def is_held_out(article: str) -> bool:
    """Whether the questions of this article are validation, not training.

    TyDiQA's dev set is what is scored, so validation is cut from the training file. By article, as TyDiQA cuts dev
    from train: no paragraph is in both. The digest of the title decides, so the cut stays the same whatever else is
    in the file.
    """
    digest = hashlib.sha256(article.encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100 < HELD_OUT_PERCENT


def field_of(record: Any, name: str, kind: type[Value], where: str) -> Value:
    """A field of a record in SQuAD's format. Raises UserError where there is none, or one of another type."""
    if not isinstance(record, dict) or name not in record:
        raise UserError(f"{where}: not in the format of SQuAD 1.1, {name!r} is missing")
    value = record[name]
    if not isinstance(value, kind):
        raise UserError(f"{where}: not in the format of SQuAD 1.1, {name!r} is not a {TYPES[kind]}")
    return value


def gold_answers(context: str, answers: list[dict[str, Any]], where: str) -> dict[str, list[Any]]:
    """The gold answers, each text and start once, in their order; blank ones are left out."""
    texts = [field_of(answer, "text", str, where) for answer in answers]
    if not any(texts):
        raise UserError(f"{where}: no gold answer ({STRIPPED})")
    stated = [field_of(answer, "answer_start", int, where) for answer in answers]
    spans = {(text, _start(context, text, start)): None for text, start in zip(texts, stated, strict=True) if text}
    return {"text": [text for text, _ in spans], "start": [start for _, start in spans]}


def _start(context: str, text: str, stated: int) -> int:
    """Where the answer starts in code points: as stated, or else at its nearest occurrence; `ABSENT` without one."""
    if stated >= 0 and context.startswith(text, stated):
        return stated
    starts = [match.start() for match in re.finditer(f"(?={re.escape(text)})", context)]
    return min(starts, key=lambda start: abs(start - stated), default=ABSENT)


def with_unique_ids(questions: Iterable[tuple[Row, str, str]]) -> Iterator[tuple[Row, str, str]]:
    """Leave out questions that are there twice, and give different questions of one id a suffix: `7`, `7-2`, `7-3`.

    XTREME's TyDiQA training files need it: its scripts cut each id down to the part after the last hyphen.
    """
    everything = list(questions)
    ids = {row["id"] for row, _, _ in everything}
    contents: dict[str, list[Row]] = {}
    for row, where, article in everything:
        original = row["id"]
        same_id = contents.setdefault(original, [])
        if row in same_id:
            continue
        same_id.append(row)
        if len(same_id) == 1:
            yield row, where, article
            continue
        number = len(same_id)
        while (unique := f"{original}-{number}") in ids:
            number += 1
        ids.add(unique)
        yield {**row, "id": unique}, where, article
