"""Facts about tagging that the configuration and the report need."""

from workflow_scripts.kinds.protocol import Metric

METRICS = (
    Metric(
        "f1",
        "F1",
        "Chunks as seqeval 1.2.2 counts them, as in the scores of Tu, Xiong and Zhou (2022); XTREME’s published scores"
        " use seqeval 0.0.12.",
    ),
    Metric(
        "f1_xtreme",
        "F1 (XTREME)",
        "Chunks as seqeval 0.0.12 counts them, with the whole tag for the type, as in XTREME’s published scores; those"
        " of Tu, Xiong and Zhou (2022) use seqeval 1.2.2.",
    ),
    Metric("accuracy", "accuracy"),
)
INPUTS = ("Sentence",)
TASK_KEYS = ("labelled_subword",)
TRAINING_KEYS: tuple[str, ...] = ()
SCORING_KEYS: tuple[str, ...] = ()
NEEDS_LABELS = True
BOUNDED = False
ANALYSABLE = False
HUB_TASK = "token-classification"
