"""Examples of entities: the sentence, and the entities that it has or that were found."""

from collections.abc import Mapping, Sequence
from typing import Any

from workflow_scripts.kinds.entities.metrics import entities
from workflow_scripts.kinds.protocol import Row

ANSWERS = "words"
NONE = "(no entity)"


def differ(predictions: Sequence[Any]) -> bool:
    """Whether the predictions have different entities."""
    return any(entities(prediction) != entities(predictions[0]) for prediction in predictions)


def goodness(row: Row, prediction: Any) -> float:
    """F1 of the sentence's entities; 100 if there are none and none were found."""
    gold, found = entities(row["tags"]), entities(prediction)
    return 100.0 * 2 * len(gold & found) / (len(gold) + len(found)) if gold or found else 100.0


def shown(row: Row, predictions: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, str]]:
    """The sentence; the gold and the predicted entities, each with its type."""
    tokens = row["tokens"]
    texts = {arm: _listed(tokens, predicted) for arm, predicted in predictions.items()}
    return [" ".join(tokens)], [_listed(tokens, row["tags"])], texts


def _listed(tokens: Sequence[str], tags: Sequence[str]) -> str:
    """`Angela Merkel PER, Berlin LOC`: the entities in the order of the sentence."""
    spans = sorted(entities(tags), key=lambda span: span[1])
    return ", ".join(f"{' '.join(tokens[first : last + 1])} {name}" for name, first, last in spans) or NONE
