"""Batches with little padding: a batch consists of chunks, each of samples of similar length.

A *sample* is one feature, or all features of a row where the loss compares them, such as the choices of a question.
"""

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
import torch

from workflow_scripts.kinds.protocol import Fillers, OwnLength
from workflow_scripts.kinds.tokens import Ragged, Tokens

Batch = dict[str, torch.Tensor]

# A batch consists of this many chunks, one from each quarter of the lengths; the samples of a chunk have similar
# lengths. Batches of a single length train worse (docs/performance.md): their gradients depend on the length.
CHUNKS = 4

# Batches per block. Chunks are cut from blocks, which are redrawn in every epoch. Larger blocks have less padding;
# in smaller ones a sample's neighbours change more from epoch to epoch.
BLOCK = 50


class Samples:
    """The samples that batches are drawn from: each feature on its own, or the features of each row together.

    Args:
        tokens: the features.
        together: whether a sample is a row; else it is a feature.

    Attributes:
        lengths: tokens of the longest feature of each sample, (samples,).
        sizes: features of each sample, (samples,).
    """

    def __init__(self, tokens: Tokens, together: bool) -> None:
        lengths = tokens.ragged("input_ids").lengths()
        rows = tokens.plain("row") if together else np.arange(len(tokens))
        self._order = np.argsort(rows, kind="stable")  # features, those of a row in the order of the token folder
        _, starts, self.sizes = np.unique(rows[self._order], return_index=True, return_counts=True)
        self._features = np.split(self._order, starts[1:]) if together else None
        self.lengths = np.maximum.reduceat(lengths[self._order], starts)

    def __len__(self) -> int:
        return len(self.lengths)

    def features(self, chosen: np.ndarray) -> np.ndarray:
        """The features of the chosen samples, sample by sample."""
        if self._features is None:
            return chosen
        return np.concatenate([self._features[sample] for sample in chosen])

    def padded_tokens(self, chosen: np.ndarray) -> int:
        """Tokens of a batch of the chosen samples, padding included."""
        return int(self.sizes[chosen].sum() * self.lengths[chosen].max())


def collate(
    tokens: Tokens,
    chosen: np.ndarray,
    padding_id: int,
    targets: Fillers,
    device: torch.device,
    length: int | None = None,
) -> Batch:
    """Return the chosen features as int64 tensors (batch, length), padded on the right.

    Args:
        tokens: the features.
        chosen: feature numbers, (batch,).
        padding_id: the id that pads `input_ids`.
        targets: the columns that the loss and the head read, each with its padding value, or None for a column of
            numbers, which becomes a tensor (batch,): int64, or float32 for a column of floats. Lists that do not follow
            the tokens (`OwnLength`) are padded to the longest list of all features.
        device: where the tensors go.
        length: tokens to pad to; by default the length of the longest chosen feature.
    """
    token_ids = tokens.ragged("input_ids")
    lengths = token_ids.lengths(chosen)
    length = length or int(lengths.max())
    arrays = {
        "input_ids": token_ids.padded(chosen, padding_id, length),
        "attention_mask": (np.arange(length) < lengths[:, None]).astype(np.int64),
    }
    if "token_type_ids" in tokens.columns:
        arrays["token_type_ids"] = tokens.ragged("token_type_ids").padded(chosen, 0, length)
    for name, filler in targets.items():
        column = tokens.columns[name]
        if isinstance(column, Ragged):
            assert filler is not None, name
            if isinstance(filler, OwnLength):
                arrays[name] = column.padded(chosen, filler.filler, int(column.lengths().max()))
            else:
                arrays[name] = column.padded(chosen, filler, length)
        else:
            arrays[name] = column[chosen].astype(np.float32 if column.dtype.kind == "f" else np.int64)
    return to_device({name: torch.from_numpy(array) for name, array in arrays.items()}, device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to the device, asynchronously on a GPU."""
    if device.type == "cpu":
        return batch
    return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in batch.items()}


def training_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the sample numbers of each batch of an epoch, sorted by length within a batch.

    The same seed and epoch give the same batches; every sample comes once. At most one batch, anywhere in the epoch,
    has fewer than `batch_size` samples. lengths: tokens of each sample, (samples,).
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for block in np.split(order, range(batch_size * BLOCK, len(order), batch_size * BLOCK)):
        samples = np.concatenate(_mixed_chunks(_by_length(block, lengths), max(1, batch_size // CHUNKS), random))
        batches += np.split(samples, range(batch_size, len(samples), batch_size))
    return [_by_length(batches[index], lengths) for index in random.permutation(len(batches))]


def _mixed_chunks(samples: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
    """The samples, sorted by length, in chunks: each run of `CHUNKS` chunks has one from each quarter."""
    chunks = np.split(samples, range(size, len(samples), size))
    quarters = [random.permutation(quarter) for quarter in np.array_split(np.arange(len(chunks)), CHUNKS)]
    mixed = [chunks[index] for turn in zip_longest(*quarters) for index in turn if index is not None]
    # An incomplete chunk comes last, or each batch after it would consist of pieces of chunks.
    return sorted(mixed, key=len, reverse=True)


def _by_length(samples: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return samples[np.argsort(lengths[samples], kind="stable")]


def prediction_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the sample numbers of each batch, the longest samples first, so that a lack of memory shows immediately.

    lengths: tokens of each sample, (samples,).
    """
    order = np.argsort(-lengths, kind="stable")
    yield from np.split(order, range(batch_size, len(order), batch_size))
