"""Word embeddings reduced to the rows that a job uses, and to those that training changes.

A multilingual vocabulary has 250,000 rows, half of a small encoder's parameters. Training data uses at most a tenth of
them, and a job needs only the rows of the texts that it reads.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from workflow_scripts.kinds.tokens import Tokens
from workflow_scripts.tuning.backbone.positions import padding_id


def ids_in(*tokens: Tokens) -> torch.Tensor:
    """Return the vocabulary ids that occur in some features, ascending, int64 (ids,)."""
    ids = [np.unique(some.ragged("input_ids").values) for some in tokens]
    return torch.from_numpy(np.unique(np.concatenate(ids)).astype(np.int64))


class KeptEmbedding(nn.Embedding):
    """A frozen embedding table that keeps only some rows; looking up another id raises IndexError.

    Args:
        words: the whole table.
        ids: the ids of the rows to keep, ascending, (rows,).
    """

    def __init__(self, words: nn.Embedding, ids: torch.Tensor) -> None:
        rows = words.weight.detach()[ids]
        super().__init__(len(rows), words.embedding_dim, _weight=rows, _freeze=True)
        self.row_of_id: torch.Tensor
        self.register_buffer("row_of_id", row_numbers(ids, words.num_embeddings), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up ids: (batch, tokens) -> (batch, tokens, width)."""
        return super().forward(self.row_of_id[ids])


class TouchedEmbedding(nn.Module):
    """A frozen embedding table with some rows replaced by trained ones.

    Without weight decay a row without a gradient never changes, not even under Adam. Training only the rows that occur
    in the training data therefore gives the same weights, and saves gradients, optimizer state and disk space.

    Args:
        words: the whole table, which is never written to.
        touched: the ids of the trained rows, ascending, (rows,).
    """

    def __init__(self, words: nn.Embedding, touched: torch.Tensor) -> None:
        super().__init__()
        self.row_of_id: torch.Tensor
        self.words = words.requires_grad_(False)
        self.padding_id = words.padding_idx  # its row gets no gradient, as in `nn.Embedding`
        self.rows = nn.Parameter(words.weight.detach()[touched])
        self.register_buffer("touched", touched)
        self.register_buffer("row_of_id", row_numbers(touched, words.num_embeddings), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up ids: (batch, tokens) -> (batch, tokens, width)."""
        row = self.row_of_id[ids]
        trained = row >= 0
        if self.padding_id is not None:
            trained = trained & (ids != self.padding_id)
        # Checked on a CPU only: on a GPU, reading the result would block until the GPU has caught up.
        if self.training and ids.device.type == "cpu" and bool(trained.all()):
            return nn.functional.embedding(row, self.rows)
        return torch.where(trained.unsqueeze(-1), nn.functional.embedding(row.clamp(min=0), self.rows), self.words(ids))


def row_numbers(ids: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Return for each id of a vocabulary its index in `ids`, or -1: int64 (vocabulary,)."""
    result = torch.full((vocabulary,), -1, dtype=torch.int64)
    result[ids] = torch.arange(len(ids))
    return result


def keep_rows(encoder: Any, ids: torch.Tensor) -> None:
    """Reduce an encoder's frozen embedding table to the rows of some ids and of the padding token.

    Texts must then contain no other id. Tables that are trained stay as they are, and so do subclasses of
    `nn.Embedding`, which do more than look up rows.
    """
    ids = torch.cat((ids, torch.tensor([padding_id(encoder)]))).unique()
    words = encoder.get_input_embeddings()
    if isinstance(words, TouchedEmbedding):
        words.words = KeptEmbedding(words.words, ids)
    elif type(words) is nn.Embedding and not words.weight.requires_grad:
        encoder.set_input_embeddings(KeptEmbedding(words, ids))
