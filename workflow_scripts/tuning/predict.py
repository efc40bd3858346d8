"""Prediction: logits of every feature, in the order of the features whatever the batches were."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from workflow_scripts.corpora.schema import Row
from workflow_scripts.tasks import kind_module
from workflow_scripts.tasks.tokens import Tokens
from workflow_scripts.tuning.batches import Batch, collate, prediction_batches
from workflow_scripts.tuning.encoder import padding_id
from workflow_scripts.tuning.memory import Portion
from workflow_scripts.tuning.model import TunedModel

BATCH_SIZE = 64


@contextlib.contextmanager
def lower_precision(device: torch.device, precision: str) -> Iterator[None]:
    """Matrix products in bfloat16, sums and normalisations in float32; or all in float32."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        yield


@torch.inference_mode()
def logits(
    model: TunedModel,
    tokens: Tokens,
    settings: Mapping[str, Any],
    device: torch.device,
    each_batch: Callable[[torch.Tensor, Batch], None] | None = None,
) -> list[np.ndarray]:
    """One float32 array a feature: (outputs,) for a task on texts, (tokens of the feature, outputs) on tokens.

    `each_batch` is shown the logits and the batch with its targets.
    """
    model.eval()
    targets = kind_module(settings["kind"]).TARGETS if each_batch else {}
    lengths = tokens.ragged("input_ids").lengths()
    result: list[np.ndarray] = [np.empty(0)] * len(tokens)
    portion = Portion(BATCH_SIZE)

    def forward(parts: list[np.ndarray]) -> list[tuple[torch.Tensor, Batch]]:
        batches = [collate(tokens, part, padding_id(model.encoder), targets, device) for part in parts]
        with lower_precision(device, settings["precision"]):
            return [(model(batch).float(), batch) for batch in batches]

    for chosen in prediction_batches(lengths, BATCH_SIZE):
        done = portion.fitted(forward, chosen)
        rows = [row for values, _ in done for row in values.cpu().numpy()]
        if each_batch:
            for values, batch in done:
                each_batch(values, batch)
        for index, row in zip(chosen, rows, strict=True):
            result[index] = row[: lengths[index]] if model.level == "token" else row
    return result


def predict(
    model: TunedModel, tokens: Tokens, rows: Sequence[Row], settings: Mapping[str, Any], device: torch.device
) -> dict[str, Any]:
    """A prediction for every row, by id: a label, a list of tags or the text of an answer."""
    values = logits(model, tokens, settings, device)
    predictions: dict[str, Any] = kind_module(settings["kind"]).decode(values, tokens, rows, settings["labels"])
    return predictions


def evaluate(
    model: TunedModel, tokens: Tokens, rows: Sequence[Row], settings: Mapping[str, Any], device: torch.device
) -> tuple[dict[str, Any], float]:
    """As `predict`, with the mean loss over all targets; the tokens must hold the loss's targets."""
    kind = kind_module(settings["kind"])
    total, count = 0.0, 0

    def add_loss(values: torch.Tensor, batch: Batch) -> None:
        nonlocal total, count
        total += float(kind.loss(values, batch)) * kind.counted(batch)
        count += kind.counted(batch)

    values = logits(model, tokens, settings, device, each_batch=add_loss)
    return kind.decode(values, tokens, rows, settings["labels"]), total / count
