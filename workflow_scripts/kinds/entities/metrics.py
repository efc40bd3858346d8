"""Scores of entities: F1, precision and recall of spans, as seqeval's strict mode with the scheme IOB2 counts them.

A predicted span is correct if its first word, its last word and its type equal those of a gold span. A span is a B tag
with the I tags of the same type that follow it directly. An I tag that continues nothing is ignored, in predictions as
by seqeval; gold rows have none (`rows.problem`).
"""

from collections.abc import Sequence
from typing import Any

from workflow_scripts.kinds.protocol import Row, Sums
from workflow_scripts.kinds.settings import ScoringSettings
from workflow_scripts.kinds.tagging.metrics import check_tag_counts, correct

__all__ = ["baseline", "contributions", "correct", "entities", "score"]

Span = tuple[str, int, int]  # type, first word, last word


def score(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> dict[str, float]:
    """`f1`, `precision` and `recall` over all spans. Raises UserError if a sentence has more or fewer tags than words.

    A score without any span to count is 0, as in seqeval: precision if nothing is predicted, recall without gold.
    """
    return {
        metric: 100.0 * sum(numerator for numerator, _ in sums) / sum(denominator for _, denominator in sums)
        for metric, sums in contributions(rows, predictions, scoring).items()
    }


def baseline(rows: Sequence[Row], scoring: ScoringSettings) -> float:
    """0: the most frequent tag is O, which finds no entity."""
    return 0.0


def contributions(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> dict[str, Sums]:
    """Of F1, twice the shared spans, and the predicted and gold spans; of the others, the shared spans and one of both.

    Where a metric has nothing to count in any sentence, each sentence counts as wrong.
    """
    check_tag_counts(rows, predictions)
    spans = [(entities(row["tags"]), entities(tags)) for row, tags in zip(rows, predictions, strict=True)]
    shared = [len(gold & found) for gold, found in spans]
    counts = {
        "f1": [(2.0 * both, float(len(gold) + len(found))) for both, (gold, found) in zip(shared, spans, strict=True)],
        "precision": [(float(both), float(len(found))) for both, (_, found) in zip(shared, spans, strict=True)],
        "recall": [(float(both), float(len(gold))) for both, (gold, _) in zip(shared, spans, strict=True)],
    }
    return {
        metric: sums if any(denominator for _, denominator in sums) else [(0.0, 1.0)] * len(sums)
        for metric, sums in counts.items()
    }


def entities(tags: Sequence[str]) -> set[Span]:
    """The spans of one sentence by strict IOB2."""
    spans = set()
    for first, tag in enumerate(tags):
        if tag.startswith("B-"):
            last = first
            while last + 1 < len(tags) and tags[last + 1] == f"I-{tag[2:]}":
                last += 1
            spans.add((tag[2:], first, last))
    return spans
