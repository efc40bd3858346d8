"""Facts about question answering that the configuration and the report need."""

from workflow_scripts.kinds.protocol import Metric

METRICS = (Metric("f1", "F1"), Metric("exact_match", "exact match"))
INPUTS = ("Context", "Question")
TASK_KEYS = ("stride",)
TRAINING_KEYS: tuple[str, ...] = ()
SCORING_KEYS: tuple[str, ...] = ("normalisation",)
TEMPLATE = ("context", "question")
GENERATES = True
NEEDS_LABELS = False
BOUNDED = True
ANALYSABLE = False
HUB_TASK = "question-answering"
