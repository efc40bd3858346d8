"""Runs: trainings from their files to their files, one or several that share a frozen encoder.

A run's folder holds `weights.safetensors` (what was tuned, nothing else), `run.json` (settings, validation by epoch,
cost, versions) and `log.jsonl` (loss, learning rate and gradient norm by step).
"""

import argparse
import contextlib
import json
import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from workflow_scripts.corpora.schema import read_rows
from workflow_scripts.encoders.record import read_encoder
from workflow_scripts.evaluation.metrics import majority_baseline, score
from workflow_scripts.experiment.files import write_json, written
from workflow_scripts.experiment.fingerprint import METRICS, fingerprint
from workflow_scripts.tasks.tokens import read_tokens
from workflow_scripts.tuning.checkpoint import Checkpoint, key_of
from workflow_scripts.tuning.device import device_name, find_device, find_precision, keep_freed_memory, memory_peak
from workflow_scripts.tuning.embedding import ids_in
from workflow_scripts.tuning.encoder import is_frozen
from workflow_scripts.tuning.lean import without_compiler
from workflow_scripts.tuning.loop import Outcome, Trained, train
from workflow_scripts.tuning.model import TunedModel, build_together
from workflow_scripts.tuning.predict import evaluate

logger = logging.getLogger(__name__)


def tune(arguments: argparse.Namespace, runs: Mapping[float, Path], checkpoints: Path) -> dict[Path, dict[str, Any]]:
    """Train a model at each learning rate, side by side, and write its run's folder.

    Args:
        arguments: the command line of a step that trains.
        runs: the folder of each run, by learning rate.
        checkpoints: the folder for checkpoints.

    Returns the record of each run, as `run.json` holds it.
    """
    device = find_device()
    settings = {**arguments.settings, "precision": find_precision(arguments.settings["precision"], device)}
    tokens, validation_tokens = read_tokens(arguments.train), read_tokens(arguments.validation)
    validation_rows = read_rows(arguments.validation_rows, settings["kind"])
    encoder = read_encoder(arguments.encoder)
    touched, ids = ids_in(tokens), ids_in(tokens, validation_tokens)
    models = build_together(arguments.encoder.parent, settings, touched, len(runs), ids)
    for model in models:
        model.to(device)
    if not is_frozen(models[0].encoder):  # Through a frozen one go small parts, which gain nothing and cost memory.
        keep_freed_memory()

    def validate(model: TunedModel) -> tuple[dict[str, float], float]:
        predictions, loss = evaluate(model, validation_tokens, validation_rows, settings, device)
        return score(settings["kind"], validation_rows, predictions), loss

    checkpoints.mkdir(parents=True, exist_ok=True)
    metrics_code = fingerprint(METRICS)
    # The settings as given: what was begun on one machine goes on in the precision of another.
    key = key_of(
        arguments.settings, metrics_code, list(runs), encoder["files"], tokens.record, validation_tokens.record
    )
    checkpoint = Checkpoint(checkpoints, key, every=arguments.checkpoint_every)
    # A user's own method may use what needs the compiler: PyTorch's profiler, its transformations of functions.
    with contextlib.nullcontext() if settings["compile"] or settings.get("module") else without_compiler():
        trained = train(models, tokens, settings, list(runs), validate, checkpoint, device)
    majority = majority_baseline(settings["kind"], validation_rows)
    records = {}
    for (rate, run), model, outcome in zip(runs.items(), models, trained.outcomes, strict=True):
        if not outcome.tensors:
            # Diverged in the first epoch: the weights of the start stand for the run, so that the grid goes on.
            (start,) = build_together(arguments.encoder.parent, settings, touched, 1, ids)
            outcome.tensors = {name: tensor.clone() for name, tensor in start.tuned_tensors().items()}
            metrics, _ = validate(start.to(device))
        else:
            metrics = outcome.epochs[outcome.best_epoch - 1].metrics
        metric, value = next(iter(metrics.items()))
        records[run] = {
            "settings": arguments.settings,
            "precision": settings["precision"],
            "learning_rate": rate,
            "metric": metric,
            "validation": value,
            "majority": majority,
            "metrics_code": metrics_code,
            **told(outcome, trained, metric, value, majority),
            "tuned_parameters": sum(parameter.numel() for parameter in model.tuned_parameters().values()),
            "encoder_parameters": encoder["parameters"],
            "peak_memory_mb": memory_peak(device),
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "versions": {package: version(package) for package in ("torch", "transformers", "numpy")},
        }
        if records[run]["problem"]:
            logger.warning("%s: %s", run, records[run]["problem"])
        write(run, outcome, records[run])
    checkpoint.remove()
    return records


def told(outcome: Outcome, trained: Trained, metric: str, value: float, majority: float) -> dict[str, Any]:
    """What a record says of a training; `seconds` are its share where several took theirs together."""
    problem, together = outcome.problem, len(trained.outcomes)
    if value <= majority:
        low = f"English validation {metric} {value:.1f} is not above the majority class ({majority:.1f})"
        problem = "; ".join(filter(None, [problem, low]))
    course = trained.course
    return {
        "epochs": [vars(epoch) for epoch in outcome.epochs],
        "best_epoch": outcome.best_epoch,
        "diverged": outcome.diverged,
        "problem": problem,
        "together": together,
        "seconds": round(course.seconds / together, 2),
        "examples_per_second": round(together * course.examples / course.seconds, 2) if course.seconds else None,
    }


def write(run: Path, outcome: Outcome, record: dict[str, Any]) -> None:
    """The three files of a run, its record last."""
    with written(run / "log.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in outcome.lines), encoding="utf-8")
    with written(run / "weights.safetensors") as temporary:
        save_file(outcome.tensors, temporary)
    record["stored_bytes"] = (run / "weights.safetensors").stat().st_size
    write_json(run / "run.json", record)
