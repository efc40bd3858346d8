"""One label for one or two texts, predicted from one vector (`sentence_vector`).

Adds the column `label` (int32).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.kinds.probability import softmax
from workflow_scripts.kinds.protocol import Columns, Counts, Row
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tokens import Tokens

if TYPE_CHECKING:
    import torch

LEVEL = "sequence"
HEAD_DROPOUT = True
TARGETS: dict[str, int | None] = {"label": None}
TOGETHER = False


def outputs(labels: Sequence[str]) -> int:
    """One logit per label."""
    return len(labels)


def tokenise(rows: Sequence[Row], tokenizer: Any, settings: TokeniseSettings) -> tuple[Columns, Counts]:
    """Each row becomes one feature with its label; see `encode`."""
    labels = {label: index for index, label in enumerate(settings.labels)}
    columns, counts = encode(rows, tokenizer, settings.max_length)
    return columns | {"label": [labels[row["label"]] for row in rows]}, counts


def encode(rows: Sequence[Row], tokenizer: Any, max_length: int) -> tuple[Columns, Counts]:
    """The columns of one feature per row, without its target; beyond `max_length` tokens, the longer text is cut first.

    Counts `empty_texts`: rows with a text that has no token. They stay, since a test set is scored on all of
    its rows.
    """
    in_pairs = rows[0]["text_pair"] is not None
    encoded = tokenizer(
        [row["text"] for row in rows],
        [row["text_pair"] for row in rows] if in_pairs else None,
        truncation="longest_first",
        max_length=max_length,
        return_attention_mask=False,
    )
    texts = {0, 1} if in_pairs else {0}
    empty = sum(not texts <= set(encoded.sequence_ids(row)) for row in range(len(rows)))
    return {**encoded, "row": list(range(len(rows)))}, {"empty_texts": empty}


def loss(logits: "torch.Tensor", batch: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Cross-entropy. logits: (batch, labels)."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits.float(), batch["label"])


def counted(batch: dict[str, "torch.Tensor"]) -> int:
    """How many targets the mean loss of a batch is over."""
    return len(batch["input_ids"])


def decode(logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str]) -> dict[str, str]:
    """The label of the highest logit. logits: one array (labels,) per feature."""
    chosen = {row: labels[int(values.argmax())] for row, values in zip(tokens.plain("row"), logits, strict=True)}
    return {rows[row]["id"]: chosen[row] for row in sorted(chosen)}


def probabilities(
    logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str], temperature: float
) -> dict[str, dict[str, float]]:
    """The probability of each label. logits: one array (labels,) per feature."""
    found = dict(zip(tokens.plain("row").tolist(), softmax(np.stack(logits), temperature).tolist(), strict=True))
    return {rows[row]["id"]: dict(zip(labels, found[row], strict=True)) for row in sorted(found)}
