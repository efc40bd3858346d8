"""Word embeddings: the rows that a job's texts touch, and of these the rows that are tuned.

A multilingual vocabulary has 250,000 rows, half of a small encoder's parameters. English training data touches a tenth
of them at most, and a job needs no others than those of the texts that it reads.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from workflow_scripts.tasks.tokens import Tokens
from workflow_scripts.tuning.encoder import padding_id


def ids_in(*tokens: Tokens) -> torch.Tensor:
    """The vocabulary ids in some features, ascending."""
    ids = [np.unique(some.ragged("input_ids").values) for some in tokens]
    return torch.from_numpy(np.unique(np.concatenate(ids)).astype(np.int64))


class KeptEmbedding(nn.Embedding):
    """The rows of a frozen table that stand for some ids; another id raises IndexError.

    Args:
        words: the whole table.
        ids: ascending, (rows,).
    """

    def __init__(self, words: nn.Embedding, ids: torch.Tensor) -> None:
        rows = words.weight.detach()[ids]
        super().__init__(len(rows), words.embedding_dim, _weight=rows, _freeze=True)
        self.place: torch.Tensor
        self.register_buffer("place", places(ids, words.num_embeddings), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids: (batch, tokens) -> (batch, tokens, width)."""
        return super().forward(self.place[ids])


class TouchedEmbedding(nn.Module):
    """A frozen table with a trained row in the place of some of its rows.

    With no weight decay a row that never gets a gradient never moves, under Adam too: leaving it out gives the same
    weights, and saves its gradient, its optimizer state and its bytes on disk.

    Args:
        words: the table, never written to.
        touched: the ids of the trained rows, ascending, (rows,).
    """

    def __init__(self, words: nn.Embedding, touched: torch.Tensor) -> None:
        super().__init__()
        self.place: torch.Tensor
        self.words = words.requires_grad_(False)
        self.padding_id = words.padding_idx  # its row gets no gradient, as in `nn.Embedding`
        self.rows = nn.Parameter(words.weight.detach()[touched])
        self.register_buffer("touched", touched)
        self.register_buffer("place", places(touched, words.num_embeddings), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids: (batch, tokens) -> (batch, tokens, width)."""
        place = self.place[ids]
        trained = place >= 0
        if self.padding_id is not None:
            trained = trained & (ids != self.padding_id)
        # Asked on a CPU alone: a GPU would have to wait for the answer.
        if self.training and ids.device.type == "cpu" and bool(trained.all()):
            return nn.functional.embedding(place, self.rows)
        return torch.where(
            trained.unsqueeze(-1), nn.functional.embedding(place.clamp(min=0), self.rows), self.words(ids)
        )


def places(ids: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Where each id of a vocabulary stands among some ids, -1 for the others. (vocabulary,)"""
    result = torch.full((vocabulary,), -1, dtype=torch.int64)
    result[ids] = torch.arange(len(ids))
    return result


def keep_rows(encoder: Any, ids: torch.Tensor) -> None:
    """Of a frozen table keep the rows of some ids and of the padding: no other id may then be in a text.

    A subclass of `nn.Embedding`, which does more than look up, is left alone, and so is a table that is tuned.
    """
    ids = torch.cat((ids, torch.tensor([padding_id(encoder)]))).unique()
    words = encoder.get_input_embeddings()
    if isinstance(words, TouchedEmbedding):
        words.words = KeptEmbedding(words.words, ids)
    elif type(words) is nn.Embedding and not words.weight.requires_grad:
        encoder.set_input_embeddings(KeptEmbedding(words, ids))
