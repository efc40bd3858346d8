"""Disentangled self-attention with prompts, for DeBERTa-v2 and v3 (mDeBERTa-v3).

He et al., 2021, "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", equation 4. With the content's query Q,
key K and value V, and the key P and query R of a position's bucket, the score of key j for query i is

    (Q_i K_j + Q_i P_b(i - j) + K_j R_b(i - j)) / sqrt(terms * head size)

The second term is content-to-position (c2p), the third position-to-content (p2c). A prompt has no position, so the
score of its vector is the first term alone, with the same factor. The position terms go to `attend` as a bias.
"""

import functools
import math
from typing import Any

import torch
from torch import nn

from workflow_scripts.tuning.acceleration.lean import without_compiler, without_extras
from workflow_scripts.tuning.backbone.attention import FIRST_QUERY_ONLY, additive_mask, attend

with without_compiler(), without_extras():
    from transformers.models.deberta_v2.modeling_deberta_v2 import (
        DebertaV2Encoder,
        DebertaV2Model,
        DisentangledSelfAttention,
        make_log_bucket_position,
    )

BLOCK = 128  # rows of a text whose scores are computed together; more rows need more distances that each row skips


def use_attention(encoder: Any) -> Any:
    """Make an encoder of DeBERTa-v2's architecture compute its attention by `attend`; return the encoder.

    Others are left unchanged. The classes of the modules are changed in place, so that the names of the parameters and
    of the modules stay those of transformers.
    """
    if isinstance(encoder, DebertaV2Model):
        encoder.encoder.__class__ = DisentangledEncoder
        layers: list[Any] = list(encoder.encoder.layer)
        for number, layer in enumerate(layers):
            layer.attention.self.__class__ = DisentangledAttention
            layer.attention.self.layer_idx = number
    return encoder


class DisentangledEncoder(DebertaV2Encoder):
    """The layers of DeBERTa-v2, with the mask and the positions in the form that `DisentangledAttention` reads."""

    def get_attention_mask(self, attention_mask: torch.Tensor) -> torch.Tensor | None:
        """Return the mask of `additive_mask` for a mask (batch, tokens)."""
        first: Any = self.layer[0]
        texts, tokens = attention_mask.shape
        return additive_mask(
            config=first.attention.config,
            allow_is_bidirectional_skip=True,
            device=attention_mask.device,
            batch_size=texts,
            q_length=tokens,
            kv_length=tokens,
            attention_mask=attention_mask.bool(),
        )

    def get_rel_pos(self, hidden_states: torch.Tensor, *_: Any) -> torch.Tensor | None:
        """Return the buckets of `buckets_of` for states (batch, tokens, width)."""
        if not self.relative_attention:
            return None
        return buckets_of(
            hidden_states.shape[1], self.position_buckets, self.max_relative_positions, hidden_states.device
        )


@functools.cache
def buckets_of(tokens: int, position_buckets: int, most: int, device: torch.device) -> torch.Tensor:
    """Return the buckets of the distances from `tokens` - 1 down to -`tokens`, int64 (2 tokens,).

    Kept for each number of tokens: the library's function copies constants to the GPU, which would prevent recording a
    step as a CUDA graph.

    Args:
        tokens: tokens of a text.
        position_buckets: the configuration's number of buckets on each side; below 1, a bucket is one distance.
        most: the configuration's largest distance.
        device: where to put the result.
    """
    with torch.inference_mode(False):  # The backward pass cannot use tensors made in inference mode.
        distances = torch.arange(tokens - 1, -tokens - 1, -1)
        if position_buckets > 0:
            distances = make_log_bucket_position(distances, position_buckets, most).long()
        return distances.to(device)


class DisentangledAttention(DisentangledSelfAttention):
    """The self-attention of one layer of DeBERTa-v2, by `attend`.

    Its attribute `prompt`, if set, is a pair of tensors (batch or 1, heads, length, head size).
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        output_attentions: bool = False,
        query_states: torch.Tensor | None = None,
        relative_pos: torch.Tensor | None = None,
        rel_embeddings: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Compute the attention; the arguments' names are those of transformers.

        Args:
            hidden_states: (batch, tokens, width).
            attention_mask: from `DisentangledEncoder.get_attention_mask`.
            output_attentions: ignored; the weights are never returned.
            query_states: the states that ask; `hidden_states` by default.
            relative_pos: from `buckets_of`; None without relative attention.
            rel_embeddings: the vectors of the buckets, (2 * buckets on each side, width).

        Returns the output (batch, tokens, width), and None instead of the weights. With `FIRST_QUERY_ONLY` the output
        is the first token's only, (batch, 1, width).
        """
        asking = hidden_states if query_states is None else query_states
        if getattr(self, FIRST_QUERY_ONLY, False):
            asking = asking[:, :1]
        query = self._heads(self.query_proj(asking))
        key, value = self._heads(self.key_proj(hidden_states)), self._heads(self.value_proj(hidden_states))
        terms = 1 + sum(kind in self.pos_att_type for kind in ("c2p", "p2c"))
        scaling = 1 / math.sqrt(terms * self.attention_head_size)
        position_bias = None
        if relative_pos is not None and terms > 1:
            position_bias = self._position_terms(query, key, relative_pos, self.pos_dropout(rel_embeddings), scaling)
        dropout = self.dropout.p if self.training else 0.0
        states, _ = attend(self, query, key, value, attention_mask, scaling, dropout, position_bias=position_bias)
        return states.flatten(2), None

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        """(..., tokens, width) -> (..., heads, tokens, head size)."""
        return states.unflatten(-1, (self.num_attention_heads, -1)).transpose(-3, -2)

    def _position_terms(
        self, query: torch.Tensor, key: torch.Tensor, buckets: torch.Tensor, vectors: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Return the scores' content-to-position and position-to-content terms, (batch, heads, queries, tokens).

        Args:
            query: (batch, heads, queries, head size); the queries are the first tokens'.
            key: (batch, heads, tokens, head size).
            buckets: from `buckets_of`.
            vectors: the vectors of the buckets.
            scaling: factor on the scores.
        """

        def projected(layer: nn.Module, buckets: torch.Tensor) -> torch.Tensor:
            """Project the buckets' vectors: (heads, 2 tokens, head size)."""
            rows = (buckets + self.pos_ebd_size).clamp(0, 2 * self.pos_ebd_size - 1)
            few = len(rows) < len(vectors)  # Long texts have more distances than there are buckets.
            read = nn.functional.embedding
            return self._heads(layer(read(rows, vectors)) if few else read(rows, layer(vectors))) * scaling

        scores = []
        if "c2p" in self.pos_att_type:
            layer = self.key_proj if self.share_att_key else self.pos_key_proj
            scores.append(by_distance(query, projected(layer, buckets)))
        if "p2c" in self.pos_att_type:
            layer = self.query_proj if self.share_att_key else self.pos_query_proj
            # Seen from the key, the query's distance has the opposite sign.
            by_key = by_distance(key, projected(layer, -buckets))
            scores.append(by_key.transpose(2, 3)[:, :, : query.shape[2]])
        return sum(scores[1:], scores[0])


def by_distance(content: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return for each row i of `content` and each token j their product with the vector of the distance j - i.

    Each row is multiplied with the distances of a block of rows. The products that it needs begin one element earlier
    than in the row before, so a view whose rows are one element shorter has them in the same columns. That is faster
    than gathering by index, above all in the backward pass.

    Args:
        content: (batch, heads, rows, head size); at most `tokens` rows.
        positions: the vectors of the distances from -(tokens - 1) to `tokens`, (heads, 2 tokens, head size).

    The result: (batch, heads, rows, tokens).
    """
    tokens, blocks = positions.shape[1] // 2, []
    for start in range(0, content.shape[2], BLOCK):
        block = content[:, :, start : start + BLOCK]
        rows = block.shape[2]
        first = tokens - start - rows  # the column of the last row's distance to token 0
        products = torch.einsum("bhid,hpd->bhip", block, positions[:, first : first + rows + tokens])
        length = products.shape[3] - 1
        shifted = products.flatten(2)[..., : rows * length].unflatten(2, (rows, length))
        blocks.append(shifted[..., rows - 1 :])
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)
