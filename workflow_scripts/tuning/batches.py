"""Batches of features, which split into parts of similar length, so that little of the arithmetic goes into padding."""

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
import torch

from workflow_scripts.tasks.tokens import Ragged, Tokens

Batch = dict[str, torch.Tensor]

# A batch consists of this many chunks, one from each quarter of the lengths; the features of a chunk have similar
# lengths. Batches of one length train worse (docs/performance.md): their gradients depend on the length.
CHUNKS = 4

# Chunks are cut from blocks of this many batches, shuffled anew in every epoch: the larger a block, the less padding;
# the smaller, the more a feature's neighbours change from epoch to epoch.
BLOCK = 50


def collate(
    tokens: Tokens,
    chosen: np.ndarray,
    padding_id: int,
    targets: dict[str, int | None],
    device: torch.device,
    length: int | None = None,
) -> Batch:
    """The chosen features as tensors (batch, length), filled up at the right.

    `targets` are the columns that the loss reads, with the filler of those that are lists; `length` is that of the
    longest feature, or more.
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
    """The batch on the device, copied while the device computes."""
    if device.type == "cpu":
        return batch
    return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in batch.items()}


def training_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The features of each batch of an epoch, the shortest first.

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
    """All features, the longest first: a machine that lacks the memory fails at once, not at the end."""
    order = np.argsort(-lengths, kind="stable")
    yield from np.split(order, range(batch_size, len(order), batch_size))
