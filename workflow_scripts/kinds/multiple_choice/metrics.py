"""Accuracy of choices; the baseline is the place that is most often correct."""

from workflow_scripts.kinds.classification.metrics import baseline, contributions, correct, score

__all__ = ["baseline", "contributions", "correct", "score"]
