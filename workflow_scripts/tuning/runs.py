"""Training runs, from input files to a run's folder: one run, or several that share a frozen encoder.

A run's folder holds `weights.safetensors` (the tuned weights only), `run.json` (settings, validation by epoch, cost,
versions) and `log.jsonl` (loss, learning rate and gradient norm by step).
"""

import argparse
import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from workflow_scripts.core.files import write_json, written
from workflow_scripts.core.fingerprint import METRICS, fingerprint
from workflow_scripts.core.names import source_languages
from workflow_scripts.core.settings import given
from workflow_scripts.corpora.schema import read_rows
from workflow_scripts.encoders.record import read_encoder
from workflow_scripts.evaluation.metrics import baseline, score
from workflow_scripts.kinds import module_of as kind_module
from workflow_scripts.kinds.tokens import Tokens, joined, joined_rows, read_tokens
from workflow_scripts.tuning.acceleration.embedding import ids_in
from workflow_scripts.tuning.acceleration.lean import without_compiler
from workflow_scripts.tuning.backbone.layers import is_frozen
from workflow_scripts.tuning.checkpoint import Checkpoint, checkpoint_key
from workflow_scripts.tuning.device import device_name, find_device, find_precision, keep_freed_memory, memory_peak
from workflow_scripts.tuning.loop import Outcome, TrainingResult, TrainingState, train
from workflow_scripts.tuning.model import TunedModel, build_together
from workflow_scripts.tuning.predict import evaluate
from workflow_scripts.tuning.settings import TrainingSettings

logger = logging.getLogger(__name__)


def tune(arguments: argparse.Namespace, runs: Mapping[float, Path], checkpoints: Path) -> dict[Path, dict[str, Any]]:
    """Train one model per learning rate, all together, and write a folder for each run.

    Args:
        arguments: the command line of a training step (`train` or `search`).
        runs: the folder of each run, by learning rate.
        checkpoints: the folder for the checkpoint.

    Returns the content of each `run.json`, by folder. Raises UserError for bad input files, Interrupted after SIGTERM
    or Ctrl-C.
    """
    device = find_device()
    configured: TrainingSettings = arguments.settings
    settings = configured.changed(precision=find_precision(configured.precision, device))
    tokens = joined(read_all(arguments.train), balanced=settings.union == "balanced")
    for file in getattr(arguments, "shots", []):
        target = read_tokens(file)
        tokens = joined([tokens, target.chosen(drawn_features(target, given(settings.shots, "shots"), settings.seed))])
    validation_tokens = joined(read_all(arguments.validation))
    languages = source_languages(settings.source)
    validation = [read_rows(file, settings.kind) for file in arguments.validation_rows]
    validation_rows = joined_rows(dict(zip(languages, validation, strict=True)))
    scoring = settings.scoring(languages[0])
    encoder = read_encoder(arguments.encoder)
    touched, ids = ids_in(tokens), ids_in(tokens, validation_tokens)
    models = build_together(arguments.encoder.parent, settings, touched, len(runs), ids)
    for model in models:
        model.to(device)
    if not is_frozen(models[0].encoder):  # A frozen encoder gets small micro-batches: no gain there, and more memory.
        keep_freed_memory()

    def validate(model: TunedModel) -> tuple[dict[str, float], float]:
        predictions, loss = evaluate(model, validation_tokens, validation_rows, settings, device)
        return score(settings.kind, validation_rows, predictions, scoring), loss

    checkpoints.mkdir(parents=True, exist_ok=True)
    metrics_code = fingerprint(METRICS, kind_module(settings.kind, "metrics"))
    # `precision` as configured, not as resolved: a training resumes on another machine in that machine's precision.
    key = checkpoint_key(
        configured.as_json(), metrics_code, list(runs), encoder["files"], tokens.record, validation_tokens.record
    )
    checkpoint = Checkpoint(checkpoints, key, every=arguments.checkpoint_every)
    untrained = not models[0].tuned_parameters()  # the method `none`
    # A user's own method may use parts of PyTorch that need the compiler, such as its profiler or torch.func.
    with contextlib.nullcontext() if settings.compile or settings.module else without_compiler():
        if untrained:
            trained = TrainingResult([Outcome() for _ in models], TrainingState())
        else:
            trained = train(models, tokens, settings, list(runs), validate, checkpoint, device)
    majority = baseline(settings.kind, validation_rows, scoring)
    records = {}
    for (rate, run), model, outcome in zip(runs.items(), models, trained.outcomes, strict=True):
        if not outcome.tensors:
            # Diverged in the first epoch: store the initial weights, so that the rest of the grid can run.
            (start,) = models if untrained else build_together(arguments.encoder.parent, settings, touched, 1, ids)
            outcome.tensors = {name: tensor.clone() for name, tensor in start.tuned_tensors().items()}
            metrics, _ = validate(start.to(device))
        else:
            metrics = outcome.epochs[outcome.best_epoch - 1].metrics
        metric, value = next(iter(metrics.items()))
        records[run] = {
            "settings": configured.as_json(),
            "precision": settings.precision,
            "learning_rate": rate,
            "metric": metric,
            "validation": value,
            "majority": majority,
            "metrics_code": metrics_code,
            **training_fields(outcome, trained, metric, value, majority),
            "tuned_parameters": sum(parameter.numel() for parameter in model.tuned_parameters().values()),
            "encoder_parameters": encoder["parameters"],
            "peak_memory_mb": memory_peak(device),
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "versions": {package: version(package) for package in ("torch", "transformers", "numpy")},
        }
        if records[run]["problem"]:
            logger.warning("%s: %s", run, records[run]["problem"])
        write_run(run, outcome, records[run])
    checkpoint.remove()
    return records


def read_all(files: Sequence[Path]) -> list[Tokens]:
    """The tokens of each training language."""
    return [read_tokens(file) for file in files]


def drawn_features(tokens: Tokens, rows: int, seed: int) -> list[int]:
    """The features of some rows that are drawn by the seed: of all rows where there are no more."""
    drawn = np.random.default_rng(seed).permutation(int(tokens.record["rows"]))[:rows]
    return np.flatnonzero(np.isin(tokens.plain("row"), drawn)).tolist()


def training_fields(
    outcome: Outcome, trained: TrainingResult, metric: str, value: float, majority: float
) -> dict[str, Any]:
    """Return the fields of `run.json` that describe the training.

    `seconds` is the run's share of the time; `examples_per_second` counts the examples of all runs trained together.
    """
    problem, together = outcome.problem, len(trained.outcomes)
    if value <= majority:
        low = f"validation {metric} {value:.1f} is not above the majority class ({majority:.1f})"
        problem = "; ".join(filter(None, [problem, low]))
    state = trained.state
    return {
        "epochs": [vars(epoch) for epoch in outcome.epochs],
        "best_epoch": outcome.best_epoch,
        "diverged": outcome.diverged,
        "problem": problem,
        "together": together,
        "seconds": round(state.seconds / together, 2),
        "examples_per_second": round(together * state.examples / state.seconds, 2) if state.seconds else None,
    }


def write_run(run: Path, outcome: Outcome, record: dict[str, Any]) -> None:
    """Write the three files of a run, `run.json` last; adds `stored_bytes` to the record."""
    with written(run / "log.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in outcome.lines), encoding="utf-8")
    with written(run / "weights.safetensors") as temporary:
        save_file(outcome.tensors, temporary)
    record["stored_bytes"] = (run / "weights.safetensors").stat().st_size
    write_json(run / "run.json", record)
