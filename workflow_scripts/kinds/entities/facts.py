"""Facts about entities that the configuration and the report need."""

from workflow_scripts.kinds.protocol import Metric

METRICS = (
    Metric(
        "f1",
        "F1",
        "Spans as seqeval’s strict mode counts them: an entity begins with a B tag. Scores by the rule of CoNLL’s"
        " script, which also lets an I tag begin an entity, can be higher.",
    ),
    Metric("precision", "precision"),
    Metric("recall", "recall"),
)
INPUTS = ("Sentence",)
TASK_KEYS = ("labelled_subword",)
TRAINING_KEYS: tuple[str, ...] = ()
NEEDS_LABELS = True
BOUNDED = False
SCORING_KEYS: tuple[str, ...] = ()
ANALYSABLE = False
HUB_TASK = "token-classification"
