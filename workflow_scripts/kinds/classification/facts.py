"""Facts about classification that the configuration and the report need."""

from workflow_scripts.kinds.protocol import Metric

METRICS = (Metric("accuracy", "accuracy"),)
INPUTS = ("Text", "Second text")
TASK_KEYS: tuple[str, ...] = ()
TRAINING_KEYS = ("sentence_vector",)
SCORING_KEYS: tuple[str, ...] = ()
TEMPLATE = ("text", "text_pair")
NEEDS_LABELS = True
BOUNDED = False
ANALYSABLE = True
HUB_TASK = "text-classification"
