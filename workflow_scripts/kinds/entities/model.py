"""Named entities: an IOB2 tag for each word, predicted from the vector of one of its subwords as in tagging.

The head has an output for O, and two for each entity type in the task's `labels` (B-PER, I-PER). Predicted tags need
not be valid IOB2, since each word has its own highest logit: predictions keep them, and the metric ignores an I tag
that continues nothing. Adds the columns of tagging.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from workflow_scripts.kinds.entities.rows import tags_of
from workflow_scripts.kinds.protocol import Columns, Counts, Row
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tagging import model as tagging
from workflow_scripts.kinds.tagging.model import HEAD_DROPOUT, LEVEL, TARGETS, TOGETHER, counted, loss
from workflow_scripts.kinds.tokens import Tokens

__all__ = [
    "HEAD_DROPOUT",
    "LEVEL",
    "TARGETS",
    "TOGETHER",
    "counted",
    "decode",
    "loss",
    "outputs",
    "probabilities",
    "tokenise",
]


def outputs(labels: Sequence[str]) -> int:
    """One logit per tag: O, and two for each entity type."""
    return len(tags_of(labels))


def tokenise(rows: Sequence[Row], tokenizer: Any, settings: TokeniseSettings) -> tuple[Columns, Counts]:
    """As in tagging: features, and the counts `cut_words` and `empty_words`."""
    return tagging.tokenise(rows, tokenizer, settings.changed(labels=tags_of(settings.labels)))


def decode(
    logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str]
) -> dict[str, list[str]]:
    """The tag of the highest logit at each word's labelled subword. logits: one array (tokens, tags) a feature."""
    return tagging.decode(logits, tokens, rows, tags_of(labels))


def probabilities(
    logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str], temperature: float
) -> dict[str, list[float]]:
    """The probability of each word's predicted tag. logits: one array (tokens, tags) a feature."""
    return tagging.probabilities(logits, tokens, rows, tags_of(labels), temperature)
