"""A score for one or two texts, predicted from one vector (`sentence_vector`).

The head's output is the score on a scale from 0 to 1: the task's `labels`, the lowest and the highest score, give the
scale. The optimizer's settings then suit any range of scores, and tokens need no statistics of the training set. Adds
the column `score` (float32, on that scale).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.kinds.classification import model as classification
from workflow_scripts.kinds.classification.model import HEAD_DROPOUT, LEVEL, TOGETHER, counted
from workflow_scripts.kinds.protocol import Columns, Counts, Row
from workflow_scripts.kinds.regression.rows import score_range
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tokens import Tokens

if TYPE_CHECKING:
    import torch

__all__ = ["HEAD_DROPOUT", "LEVEL", "TARGETS", "TOGETHER", "counted", "decode", "loss", "outputs", "tokenise"]

TARGETS: dict[str, int | None] = {"score": None}


def outputs(labels: Sequence[str]) -> int:
    """One number."""
    return 1


def tokenise(rows: Sequence[Row], tokenizer: Any, settings: TokeniseSettings) -> tuple[Columns, Counts]:
    """Each row becomes one feature, as in classification, which also says what is counted."""
    low, high = score_range(settings.labels)
    columns, counts = classification.encode(rows, tokenizer, settings.max_length)
    return columns | {"score": [(float(row["score"]) - low) / (high - low) for row in rows]}, counts


def loss(logits: "torch.Tensor", batch: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Mean squared error. logits: (batch, 1)."""
    from torch.nn.functional import mse_loss

    return mse_loss(logits.float().squeeze(-1), batch["score"])


def decode(
    logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str]
) -> dict[str, float]:
    """The score, on the task's own scale and not limited to its range. logits: one array (1,) a feature."""
    low, high = score_range(labels)
    scores = {row: low + (high - low) * float(value) for row, (value,) in zip(tokens.plain("row"), logits, strict=True)}
    return {rows[row]["id"]: scores[row] for row in sorted(scores)}
