"""Examples of predictions: rows on which tuned models disagree, with inputs, gold and predictions as readable texts.

The texts are copied from the corpora without escaping: code that displays them must escape them.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workflow_scripts.corpora.schema import Row
from workflow_scripts.kinds import part

EXAMPLES = 5  # for each language

Predictions = Mapping[str, Any]  # by arm
PredictedRow = tuple[Row, Predictions]


def examples(
    rows: Mapping[str, Iterable[PredictedRow]], kind: str, inputs: Sequence[str], arms: Sequence[str]
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
    differ = part(kind, "examples").differ
    disagreeing = {
        language: [(row, predictions) for row, predictions in of_language if differ(list(predictions.values()))]
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


def _best(kind: str, row: Row, predictions: Predictions) -> str | None:
    """The arm whose prediction is better than all others, or None."""
    goodness = part(kind, "examples").goodness
    values = {arm: goodness(row, prediction) for arm, prediction in predictions.items()}
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


def _shown(kind: str, row: Row, predictions: Predictions, inputs: Sequence[str], arms: Sequence[str]) -> dict[str, Any]:
    """The row with its predictions as readable texts.

    `answers` says what gold and predictions are: `labels`, `text` in the language of the row, or `words` of the row
    with their tags, joined by `, ` in the same order.
    """
    examples_of_kind = part(kind, "examples")
    texts, gold, shown = examples_of_kind.shown(row, {arm: predictions[arm] for arm in arms})
    return {
        "id": row["id"],
        "inputs": dict(zip(inputs, texts, strict=False)),
        "gold": gold,
        "answers": examples_of_kind.ANSWERS,
        "predictions": shown,
        "right": [arm for arm in arms if examples_of_kind.goodness(row, predictions[arm]) == 100 or shown[arm] in gold],
    }
