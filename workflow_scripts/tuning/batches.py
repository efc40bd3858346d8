"""Batches of features, which split into parts of similar length, so that little of the arithmetic goes into padding."""

from collections.abc import Iterator

import numpy as np
import torch

from workflow_scripts.tasks.tokens import Ragged, Tokens

Batch = dict[str, torch.Tensor]

# A batch consists of this many chunks, drawn at random; the features of a chunk have similar lengths. Batches of one
# length train worse: their gradients depend on the length (docs/performance.md, "Batches").
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

    The same seed and epoch give the same batches; every feature comes once. All batches have `batch_size` features, but
    for the last one.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    size = max(1, batch_size // CHUNKS)
    chunks: list[np.ndarray] = []
    for block in np.split(order, range(batch_size * BLOCK, len(order), batch_size * BLOCK)):
        by_length = _by_length(block, lengths)
        chunks += np.split(by_length, range(size, len(by_length), size))
    shuffled = [chunks[index] for index in random.permutation(len(chunks))]
    shuffled.sort(key=len, reverse=True)  # An incomplete chunk comes last, or later batches would consist of pieces.
    features = np.concatenate(shuffled)
    return [_by_length(batch, lengths) for batch in np.split(features, range(batch_size, len(features), batch_size))]


def _by_length(features: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return features[np.argsort(lengths[features], kind="stable")]


def prediction_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """All features, the longest first: a machine that lacks the memory fails at once, not at the end."""
    order = np.argsort(-lengths, kind="stable")
    yield from np.split(order, range(batch_size, len(order), batch_size))
