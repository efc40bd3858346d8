"""Probabilities from logits."""

import numpy as np


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax over the last axis of the logits, divided by the temperature (Guo et al., 2017), in float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(-1, keepdims=True))
    result: np.ndarray = exponentials / exponentials.sum(-1, keepdims=True)
    return result
