"""Word embeddings of which only the rows that the training data touches are tuned.

A multilingual vocabulary has 250,000 rows, English training data touches a tenth of them at most. With no weight decay
a row that never gets a gradient never moves, under Adam too: leaving it out gives the same weights, and saves its
gradient, its optimizer state and its bytes on disk.
"""

import torch
from torch import nn


class TouchedEmbedding(nn.Module):
    """A frozen table with a trained row in the place of some of its rows.

    Args:
        table: (vocabulary, width), never written to.
        touched: the ids of the trained rows, ascending, (rows,).
        padding_id: the id whose row gets no gradient, as in `nn.Embedding`.
    """

    def __init__(self, table: torch.Tensor, touched: torch.Tensor, padding_id: int | None) -> None:
        super().__init__()
        self.place: torch.Tensor
        self.table: torch.Tensor
        self.register_buffer("table", table, persistent=False)
        self.padding_id = padding_id
        self.rows = nn.Parameter(table[touched].clone())
        self.register_buffer("touched", touched)
        place = torch.full((table.shape[0],), -1, dtype=torch.int64)
        place[touched] = torch.arange(len(touched))
        self.register_buffer("place", place, persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids: (batch, tokens) -> (batch, tokens, width)."""
        place = self.place[ids]
        trained = place >= 0
        if self.padding_id is not None:
            trained = trained & (ids != self.padding_id)
        # Asked on a CPU alone: a GPU would have to wait for the answer.
        if self.training and ids.device.type == "cpu" and bool(trained.all()):
            return nn.functional.embedding(place, self.rows)
        frozen = nn.functional.embedding(ids, self.table)
        return torch.where(trained.unsqueeze(-1), nn.functional.embedding(place.clamp(min=0), self.rows), frozen)
