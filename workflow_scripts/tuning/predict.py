"""Prediction: the logits of every feature, or the text that it is continued with, in the features' order."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from workflow_scripts.core.settings import given
from workflow_scripts.corpora.schema import Confidences, Row
from workflow_scripts.kinds import model_part, part
from workflow_scripts.kinds.probability import confidence
from workflow_scripts.kinds.tokens import Ragged, Tokens
from workflow_scripts.tuning.backbone.positions import padding_id
from workflow_scripts.tuning.batches import Batch, Samples, collate, prediction_batches
from workflow_scripts.tuning.generate import continuations
from workflow_scripts.tuning.memory import MicroBatches
from workflow_scripts.tuning.model import TunedModel
from workflow_scripts.tuning.settings import TrainingSettings

BATCH_SIZE = 64  # features


@contextlib.contextmanager
def lower_precision(device: torch.device, precision: str) -> Iterator[None]:
    """Within the block: with "bfloat16", matrix products in bfloat16 and the rest in float32; else all in float32."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        yield


@torch.inference_mode()
def logits(
    model: TunedModel,
    tokens: Tokens,
    precision: str,
    device: torch.device,
    kind: Any = None,
    each_batch: Callable[[torch.Tensor, Batch], None] | None = None,
) -> list[np.ndarray]:
    """Return one float32 array per feature, in the features' order.

    Args:
        model: the model, on the device.
        tokens: the features.
        precision: "bfloat16" or "float32".
        device: where the model is.
        kind: the module `model` of the kind of task, if `each_batch` needs the targets.
        each_batch: called with the logits and the batch, targets included, of each micro-batch; the features of a row
            are then in one micro-batch if the kind asks for it.

    The arrays are (outputs,) at the sequence level, (tokens of the feature, outputs) at the token level. If memory runs
    out, batches are split; raises the original error if a single feature does not fit.
    """
    model.eval()
    columns = model.reads | (kind.TARGETS if kind else {})
    samples = Samples(tokens, bool(kind and kind.TOGETHER))
    lengths = tokens.ragged("input_ids").lengths()
    result: list[np.ndarray] = [np.empty(0)] * len(tokens)
    size = max(1, BATCH_SIZE // int(samples.sizes.max(initial=1)))
    micro_batches = MicroBatches(size)

    def forward(parts: list[np.ndarray]) -> list[tuple[torch.Tensor, Batch]]:
        batches = [
            collate(tokens, samples.features(part), padding_id(model.encoder), columns, device) for part in parts
        ]
        with lower_precision(device, precision):
            return [(model(batch).float(), batch) for batch in batches]

    for chosen in prediction_batches(samples.lengths, size):
        results = micro_batches.run(forward, chosen)
        rows = [row for values, _ in results for row in values.cpu().numpy()]
        if each_batch:
            for values, batch in results:
                each_batch(values, batch)
        for index, row in zip(samples.features(chosen), rows, strict=True):
            result[index] = row[: lengths[index]] if model.level == "token" else row
    return result


def generated_texts(model: TunedModel, tokens: Tokens, settings: TrainingSettings, device: torch.device) -> list[str]:
    """Return the text that continues the prompt of each feature, in the features' order; see `continuations`.

    If memory runs out, batches are split; raises the original error if a single feature does not fit.
    """
    model.eval()
    writer, output_layer = model.writer, model.output_layer
    assert writer is not None and output_layer is not None
    prompts, ends = prompts_of(tokens), writer.ends | output_layer.ends
    result: list[str] = [""] * len(tokens)
    micro_batches = MicroBatches(BATCH_SIZE)

    def generate(parts: list[np.ndarray]) -> list[list[int]]:
        batches = (collate(prompts, part, padding_id(model.encoder), {}, device) for part in parts)
        with lower_precision(device, settings.precision):
            limit = given(settings.new_tokens, "new_tokens")
            return [text for batch in batches for text in continuations(model, batch, limit, ends, writer.ended)]

    for chosen in prediction_batches(prompts.ragged("input_ids").lengths(), BATCH_SIZE):
        for index, ids in zip(chosen, micro_batches.run(generate, chosen), strict=True):
            result[index] = writer.text(ids)
    return result


def prompts_of(tokens: Tokens) -> Tokens:
    """Return the prompt of each feature, without the answer that follows it in a training or validation set."""
    texts, lengths = tokens.ragged("input_ids"), tokens.plain("prompt")
    prompts = [texts[feature][:length] for feature, length in enumerate(lengths)]
    return Tokens({"input_ids": Ragged(np.concatenate(prompts), np.concatenate(([0], lengths.cumsum())))}, {})


def _kind(settings: TrainingSettings) -> Any:
    return part(settings.kind, model_part(settings.answers))


def predict(
    model: TunedModel, tokens: Tokens, rows: Sequence[Row], settings: TrainingSettings, device: torch.device
) -> dict[str, Any]:
    """Return a prediction for every row, by row id: see `decode` of the kind."""
    return predict_with_confidences(model, tokens, rows, settings, device, None)[0]


def predict_with_confidences(
    model: TunedModel,
    tokens: Tokens,
    rows: Sequence[Row],
    settings: TrainingSettings,
    device: torch.device,
    temperature: float | None,
) -> tuple[dict[str, Any], Confidences | None]:
    """Return what `predict` does, and the probability of each prediction, at a temperature and without one.

    temperature: that of the run's record; None for a kind without probabilities, whose predictions have none.
    """
    kind, values = _kind(settings), _values(model, tokens, settings, device)
    predictions: dict[str, Any] = kind.decode(values, tokens, rows, settings.labels)
    if temperature is None:
        return predictions, None

    def confidences(at: float) -> dict[str, float | list[float]]:
        found = kind.probabilities(values, tokens, rows, settings.labels, at)
        return {identity: confidence(found[identity], guess) for identity, guess in predictions.items()}

    return predictions, Confidences(confidences(temperature), confidences(1.0))


def _values(model: TunedModel, tokens: Tokens, settings: TrainingSettings, device: torch.device) -> Sequence[Any]:
    """The input of the kind's `decode`: the logits of each feature, or its text."""
    if model.writer:
        return generated_texts(model, tokens, settings, device)
    return logits(model, tokens, settings.precision, device)


def evaluate(
    model: TunedModel,
    tokens: Tokens,
    rows: Sequence[Row],
    settings: TrainingSettings,
    device: torch.device,
    keep: Callable[[torch.Tensor, Batch], None] | None = None,
) -> tuple[dict[str, Any], float]:
    """Return what `predict` does, and the mean loss over all targets; `tokens` must hold the targets.

    `keep` is called with the logits and the batch of each micro-batch.
    """
    kind = _kind(settings)
    total, count = 0.0, 0

    def add_loss(values: torch.Tensor, batch: Batch) -> None:
        nonlocal total, count
        total += float(kind.loss(values, batch)) * kind.counted(batch)
        count += kind.counted(batch)
        if keep:
            keep(values, batch)

    values: Sequence[Any] = logits(model, tokens, settings.precision, device, kind, add_loss)
    if model.writer:
        values = generated_texts(model, tokens, settings, device)
    return kind.decode(values, tokens, rows, settings.labels), total / count
