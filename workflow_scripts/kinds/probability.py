"""Probabilities from logits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax over the last axis of the logits, divided by the temperature (Guo et al., 2017), in float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(-1, keepdims=True))
    result: np.ndarray = exponentials / exponentials.sum(-1, keepdims=True)
    return result


def confidence(found: Mapping[str, float] | Sequence[float] | float, prediction: Any) -> float | list[float]:
    """The probability of a predicted answer; of a list of tags, that of each.

    Args:
        found: what a kind's `probabilities` returns for the row: by label, by choice, of each tag, or of the answer.
        prediction: what its `decode` returns for the row: a label, the place of a choice, a list of tags, or a text.
    """
    if isinstance(found, Mapping) or isinstance(prediction, int):
        return float(found[prediction])  # type: ignore[index]
    return float(found) if isinstance(found, int | float) else list(found)
