"""Facts about multiple choice that the configuration and the report need."""

from workflow_scripts.kinds.protocol import Metric

METRICS = (Metric("accuracy", "accuracy"),)
INPUTS = ("Text", "Question", "Choices")  # a task without questions names two
TASK_KEYS: tuple[str, ...] = ()
TRAINING_KEYS = ("sentence_vector",)
TEMPLATE = ("text", "question")
NEEDS_LABELS = False
BOUNDED = False
SCORING_KEYS: tuple[str, ...] = ()
ANALYSABLE = False
HUB_TASK = "multiple-choice"
