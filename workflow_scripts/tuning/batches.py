"""Batches of features with little padding: a batch consists of chunks, each of features of similar length."""

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
import torch

from workflow_scripts.kinds.tokens import Ragged, Tokens

Batch = dict[str, torch.Tensor]

# A batch consists of this many chunks, one from each quarter of the lengths; the features of a chunk have similar
# lengths. Batches of one length train worse (docs/performance.md): their gradients depend on the length.
CHUNKS = 4

# Batches per block. Chunks are cut from blocks, which are redrawn in every epoch. Larger blocks have less padding;
# in smaller ones a feature's neighbours change more from epoch to epoch.
BLOCK = 50


def collate(
    tokens: Tokens,
    chosen: np.ndarray,
    padding_id: int,
    targets: dict[str, int | None],
    device: torch.device,
    length: int | None = None,
) -> Batch:
    """Return the chosen features as int64 tensors (batch, length), padded on the right.

    Args:
        tokens: the features.
        chosen: feature numbers, (batch,).
        padding_id: the id that pads `input_ids`.
        targets: the columns that the loss reads, each with its padding value, or None for a column of numbers, which
            becomes a tensor (batch,).
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
            arrays[name] = column.padded(chosen, filler, length)
        else:
            arrays[name] = column[chosen].astype(np.int64)
    return to_device({name: torch.from_numpy(array) for name, array in arrays.items()}, device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to the device, asynchronously on a GPU."""
    if device.type == "cpu":
        return batch
    return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in batch.items()}


def training_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the feature numbers of each batch of an epoch, sorted by length within a batch.

    The same seed and epoch give the same batches; every feature comes once. At most one batch, anywhere in the epoch,
    has fewer than `batch_size` features.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for block in np.split(order, range(batch_size * BLOCK, len(order), batch_size * BLOCK)):
        features = np.concatenate(_mixed_chunks(_by_length(block, lengths), max(1, batch_size // CHUNKS), random))
        batches += np.split(features, range(batch_size, len(features), batch_size))
    return [_by_length(batches[index], lengths) for index in random.permutation(len(batches))]


def _mixed_chunks(features: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
    """The features, sorted by length, in chunks: each run of `CHUNKS` chunks has one from each quarter."""
    chunks = np.split(features, range(size, len(features), size))
    quarters = [random.permutation(quarter) for quarter in np.array_split(np.arange(len(chunks)), CHUNKS)]
    mixed = [chunks[index] for turn in zip_longest(*quarters) for index in turn if index is not None]
    # An incomplete chunk comes last, or each batch after it would consist of pieces of chunks.
    return sorted(mixed, key=len, reverse=True)


def _by_length(features: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return features[np.argsort(lengths[features], kind="stable")]


def prediction_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the feature numbers of each batch, the longest features first, so that a lack of memory shows at once.

    lengths: tokens of each feature, (features,).
    """
    order = np.argsort(-lengths, kind="stable")
    yield from np.split(order, range(batch_size, len(order), batch_size))
