"""Batches of features of like length, so that little of the arithmetic goes into padding."""

from collections.abc import Iterator

import numpy as np
import torch

from workflow_scripts.tasks.tokens import Ragged, Tokens

Batch = dict[str, torch.Tensor]

# Features are shuffled, then sorted by length within blocks of this many batches: batches hold like lengths, yet which
# features meet in one batch changes from epoch to epoch.
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
    return {name: _to_device(array, device) for name, array in arrays.items()}


def _to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def training_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The features of each batch of an epoch, the same for the same seed and epoch; every feature comes once."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for block in np.split(order, range(batch_size * BLOCK, len(order), batch_size * BLOCK)):
        by_length = block[np.argsort(lengths[block], kind="stable")]
        batches += np.split(by_length, range(batch_size, len(by_length), batch_size))
    return [batches[index] for index in random.permutation(len(batches))]


def prediction_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """All features, the longest first: a machine that lacks the memory fails at once, not at the end."""
    order = np.argsort(-lengths, kind="stable")
    yield from np.split(order, range(batch_size, len(order), batch_size))
