"""Examples of predictions: rows on which tuned models disagree, with inputs, gold and predictions as readable texts.

The texts are copied from the corpora without escaping: code that displays them must escape them.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workflow_scripts.corpora.schema import Row
from workflow_scripts.evaluation.metrics import exact_match, normalise_answer
from workflow_scripts.experiment.kinds import Kind

EXAMPLES = 5  # for each language
CONTEXT = 400  # characters of a context that are shown
ELLIPSIS = "…"
NEAR = 20  # how far a cut may move to fall between words

Predictions = Mapping[str, Any]  # by arm
PredictedRow = tuple[Row, Predictions]


def examples(
    rows: Mapping[str, Iterable[PredictedRow]], kind: Kind, inputs: Sequence[str], arms: Sequence[str]
) -> list[dict[str, Any]]:
    """Up to `EXAMPLES` rows of each language on which the arms disagree, chosen without looking at their content.

    Args:
        rows: by language, the test rows with the prediction of each arm.
        kind: the kind of the task. Answers are compared after SQuAD 1.1's normalisation.
        inputs: the titles of the texts of a row.
        arms: their names, in the order of display.

    Rows are taken in turn for each arm: one on which the first arm alone is best, then one for the second, and so on;
    languages begin with different arms. Rows without a single best arm come last. The examples therefore do not show
    how often an arm is right; `disagreements` does. Among equals, rows that are disagreed on in more languages come
    first, so that a row of a parallel corpus is shown in several languages. Remaining ties are broken by a checksum of
    the ids, so that adding or moving a row changes nothing else.

    Returns dictionaries with `language`, `id`, `inputs` (text by title), `gold` (the correct texts), `answers` (see
    `_shown`), `predictions` (text by arm), `right` (the arms that are correct) and `disagreements`: `rows`, the number
    of the language's rows that the arms disagree on, and for each arm the number of these on which it alone is best.
    """
    disagreeing = {
        language: [(row, predictions) for row, predictions in of_language if disagree(kind, predictions)]
        for language, of_language in rows.items()
    }
    spread = Counter(row["id"] for of_language in disagreeing.values() for row, _ in of_language)
    found = []
    for place, (language, candidates) in enumerate(disagreeing.items()):
        ranked = sorted(candidates, key=lambda found: (-spread[found[0]["id"]], _checksum(found[0]["id"])))
        best = [_best(kind, row, predictions) for row, predictions in ranked]
        counts = {"rows": len(ranked), **{arm: best.count(arm) for arm in arms}}
        start = place % len(arms)
        for row, predictions in _in_turns(ranked, best, [*arms[start:], *arms[:start]]):
            found.append(
                {"language": language, **_shown(kind, row, predictions, inputs, arms), "disagreements": counts}
            )
    return found


def disagree(kind: Kind, predictions: Predictions) -> bool:
    """Whether the predictions of a row differ."""
    values = list(predictions.values())
    if kind == "question_answering":
        values = [normalise_answer(value) for value in values]
    return any(value != values[0] for value in values)


def goodness(kind: Kind, row: Row, prediction: Any) -> float:
    """The score of the prediction of one row, 0 to 100: accuracy, or for question answering exact match."""
    if kind == "sentence_pair":
        return 100.0 * (prediction == row["label"])
    if kind == "tagging":
        return 100.0 * sum(map(str.__eq__, row["tags"], prediction)) / len(row["tags"])
    return exact_match(row["answers"]["text"], prediction)


def _best(kind: Kind, row: Row, predictions: Predictions) -> str | None:
    """The arm whose prediction is better than all others, or None."""
    values = {arm: goodness(kind, row, prediction) for arm, prediction in predictions.items()}
    highest = [arm for arm, value in values.items() if value == max(values.values())]
    return highest[0] if len(highest) == 1 else None


def _checksum(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()


def _in_turns(ranked: Sequence[PredictedRow], best: Sequence[str | None], arms: Sequence[str]) -> list[PredictedRow]:
    """Up to `EXAMPLES` rows: one for each arm in turn, then those without a single best arm."""
    piles = {who: [row for row, winner in zip(ranked, best, strict=True) if winner == who] for who in (*arms, None)}
    taken: list[PredictedRow] = []
    while any(piles[arm] for arm in arms):
        taken += [piles[arm].pop(0) for arm in arms if piles[arm]]
    return [*taken, *piles[None]][:EXAMPLES]


def _shown(
    kind: Kind, row: Row, predictions: Predictions, inputs: Sequence[str], arms: Sequence[str]
) -> dict[str, Any]:
    """The row with its predictions as readable texts.

    `answers` says what gold and predictions are: `labels`, `text` in the language of the row, or `words` of the row
    with their tags, joined by `, ` in the same order.
    """
    if kind == "sentence_pair":
        texts, gold, answers = [row["text_a"], row["text_b"]], [row["label"]], "labels"
        shown = {arm: predictions[arm] for arm in arms}
        right = [arm for arm in arms if goodness(kind, row, predictions[arm])]
    elif kind == "tagging":
        texts, answers = [" ".join(row["tokens"])], "words"
        tags = zip(*(predictions[arm] for arm in arms), strict=True)
        differing = [place for place, of_word in enumerate(tags) if len(set(of_word)) > 1]
        gold = [_tagged(row["tokens"], row["tags"], differing)]
        shown = {arm: _tagged(row["tokens"], predictions[arm], differing) for arm in arms}
        right = [arm for arm in arms if shown[arm] == gold[0]]
    else:
        start = max(0, row["answers"]["start"][0])  # an answer that is not in the context has none
        texts = [excerpt(row["context"], start, start + len(row["answers"]["text"][0])), row["question"]]
        gold, answers = list(dict.fromkeys(row["answers"]["text"])), "text"
        shown = {arm: predictions[arm] for arm in arms}
        right = [arm for arm in arms if goodness(kind, row, predictions[arm])]
    return {
        "id": row["id"],
        "inputs": dict(zip(inputs, texts, strict=True)),
        "gold": gold,
        "answers": answers,
        "predictions": shown,
        "right": right,
    }


def _tagged(tokens: Sequence[str], tags: Sequence[str], places: Sequence[int]) -> str:
    """`saw VERB, her PRON`: the words at some places with their tags."""
    return ", ".join(f"{tokens[place]} {tags[place]}" for place in places)


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
