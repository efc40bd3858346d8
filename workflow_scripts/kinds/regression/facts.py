"""Facts about regression that the configuration and the report need."""

from workflow_scripts.kinds.protocol import Metric

METRICS = (
    Metric("spearman", "Spearman correlation", "Rank correlation times 100, as STS papers report it.", low=-100.0),
    Metric("pearson", "Pearson correlation", "Linear correlation times 100.", low=-100.0),
)
INPUTS = ("Text", "Second text")
TASK_KEYS: tuple[str, ...] = ()
TRAINING_KEYS = ("sentence_vector",)
NEEDS_LABELS = True
BOUNDED = False
SCORING_KEYS: tuple[str, ...] = ()
ANALYSABLE = False
HUB_TASK = "text-classification"
