"""Examples of question answering: a part of the context around the answer, and the question."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from workflow_scripts.kinds.protocol import Row
from workflow_scripts.kinds.question_answering.metrics import exact_match, normalise_answer

ANSWERS = "text"
CONTEXT = 400  # characters of a context that are shown
ELLIPSIS = "…"
NEAR = 20  # how far a cut may move to fall between words


def differ(predictions: Sequence[Any]) -> bool:
    """Whether the answers differ after SQuAD 1.1's normalisation."""
    return len(set(map(normalise_answer, predictions))) > 1


def goodness(row: Row, prediction: Any) -> float:
    """Exact match."""
    return exact_match(row["answers"]["text"], prediction)


def shown(row: Row, predictions: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, str]]:
    """The context around the first gold answer and the question; the answers."""
    start = max(0, row["answers"]["start"][0])  # an answer that is not in the context has none
    context = excerpt(row["context"], start, start + len(row["answers"]["text"][0]))
    return [context, row["question"]], list(dict.fromkeys(row["answers"]["text"])), dict(predictions)


def excerpt(text: str, start: int, end: int) -> str:
    """About `CONTEXT` characters of a text around its part from `start` to `end`, with an ellipsis where it is cut.

    The whole part is kept, however long. A cut falls between words where a space is near, and never between a letter
    and its combining marks.
    """
    if len(text) <= CONTEXT:
        return text
    room = max(0, CONTEXT - (end - start))
    first = max(0, min(start - room // 2, len(text) - CONTEXT))
    last = min(len(text), max(end, first + CONTEXT))
    first, last = _cut(text, first, start, 1), _cut(text, last, end, -1)
    before, after = ELLIPSIS if first else "", ELLIPSIS if last < len(text) else ""
    return before + text[first:last].strip() + after


def _cut(text: str, place: int, limit: int, step: int) -> int:
    """A place near `place`, towards `limit`, where the text may be cut."""
    if place in (0, len(text)):
        return place
    near = [place + step * far for far in range(NEAR) if (limit - place) * step >= far]
    for candidate in near:
        if text[candidate - 1].isspace() or text[candidate].isspace():
            return candidate
    return next((candidate for candidate in near if not unicodedata.category(text[candidate]).startswith("M")), limit)
