"""Examples of tagging: the words on which the arms disagree, with their tags."""

from collections.abc import Mapping, Sequence
from typing import Any

from workflow_scripts.kinds.protocol import Row

ANSWERS = "words"


def differ(predictions: Sequence[Any]) -> bool:
    """Whether a word has two tags among the predictions."""
    return any(prediction != predictions[0] for prediction in predictions)


def goodness(row: Row, prediction: Any) -> float:
    """The share of words with the correct tag."""
    return 100.0 * sum(map(str.__eq__, row["tags"], prediction)) / len(row["tags"])


def shown(row: Row, predictions: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, str]]:
    """The sentence; of the words on which the arms disagree, the gold and the predicted tags."""
    tags = zip(*predictions.values(), strict=True)
    differing = [place for place, of_word in enumerate(tags) if len(set(of_word)) > 1]
    texts = {arm: _tagged(row["tokens"], predicted, differing) for arm, predicted in predictions.items()}
    return [" ".join(row["tokens"])], [_tagged(row["tokens"], row["tags"], differing)], texts


def _tagged(tokens: Sequence[str], tags: Sequence[str], places: Sequence[int]) -> str:
    """`saw VERB, her PRON`: the words at some places with their tags."""
    return ", ".join(f"{tokens[place]} {tags[place]}" for place in places)
