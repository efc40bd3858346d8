"""Tune one model on the English training set and validate it after every epoch.

    encoder + English tokens ──> weights.safetensors   what was tuned, nothing else
                                 run.json              settings, validation by epoch, cost, versions
                                 log.jsonl             loss and learning rate by step

The learning rate is given (`--learning-rate`, a candidate of the search) or read from the winner's record
(`--selected`). Where the winner was trained with this run's seed, its files are linked and nothing is trained twice
(`--candidates`). A training that was interrupted goes on from the checkpoint in the run's folder; SIGTERM saves one at
once and ends with status 75.

Settings: the merged training settings of the run, which `config.yaml` explains.
"""

import argparse
import json
import logging
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from workflow_scripts.corpora.schema import read_rows
from workflow_scripts.evaluation.metrics import majority_baseline, score
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.step import read_json, run, step_parser, write_json, written
from workflow_scripts.tasks.tokens import Tokens, read_tokens

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = step_parser(__doc__)
    result.add_argument("--encoder", type=Path, required=True, help="the encoder's record, encoder.json")
    result.add_argument("--train", type=Path, required=True, help="tokens.json of the English training set")
    result.add_argument("--validation", type=Path, required=True, help="tokens.json of the English validation set")
    result.add_argument("--validation-rows", type=Path, required=True, help="the English validation set, parquet")
    rate = result.add_mutually_exclusive_group(required=True)
    rate.add_argument("--learning-rate", type=float, help="a candidate of the search")
    rate.add_argument("--selected", type=Path, help="selected.json, the winner of the search")
    result.add_argument("--candidates", type=Path, nargs="*", default=[], help="weights of the search's finished runs")
    result.add_argument("--run", type=Path, required=True, help="the folder to write to")
    result.add_argument("--checkpoint-every", type=float, default=180.0, metavar="SECONDS", help="default: 180")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Train, validate, write; or link the run of the search that was this one."""
    learning_rate = arguments.learning_rate or read_json(arguments.selected)["learning_rate"]
    for weights in arguments.candidates:
        if read_json(weights.parent / "run.json")["learning_rate"] == learning_rate:
            return link(weights.parent, arguments.run)
    return tune(arguments, learning_rate)


def link(origin: Path, run: Path) -> None:
    """Give a finished run's files a second name; copy them where the disk has no links."""
    for name in ("weights.safetensors", "run.json", "log.jsonl"):
        with written(run / name) as temporary:
            try:
                os.link(origin / name, temporary)
            except OSError:
                shutil.copy2(origin / name, temporary)
    logger.info("the search trained this run: %s", origin)


def tune(arguments: argparse.Namespace, learning_rate: float) -> None:
    """Train, validate, write."""
    import torch
    from safetensors.torch import save_file

    from workflow_scripts.tuning.checkpoint import Checkpoint, key_of
    from workflow_scripts.tuning.device import find_device, memory_peak, seed_everything
    from workflow_scripts.tuning.loop import train
    from workflow_scripts.tuning.model import TunedModel, build
    from workflow_scripts.tuning.predict import evaluate

    settings: dict[str, Any] = arguments.settings
    tokens, validation_tokens = read_tokens(arguments.train), read_tokens(arguments.validation)
    validation_rows = read_rows(arguments.validation_rows, settings["kind"])
    device = find_device()
    seed_everything(settings["seed"])
    model = build(arguments.encoder.parent, settings, touched=_touched(tokens)).to(device)
    tuned = sum(parameter.numel() for parameter in model.tuned_parameters().values())

    def validate(model: TunedModel) -> tuple[dict[str, float], float]:
        predictions, loss = evaluate(model, validation_tokens, validation_rows, settings, device)
        return score(settings["kind"], validation_rows, predictions), loss

    arguments.run.mkdir(parents=True, exist_ok=True)
    encoder = read_json(arguments.encoder)
    key = key_of(settings, learning_rate, encoder["files"], tokens.record, validation_tokens.record)
    checkpoint = Checkpoint(arguments.run, key, every=arguments.checkpoint_every)
    outcome = train(model, tokens, settings, learning_rate, validate, checkpoint, device)
    if not outcome.tensors:
        raise UserError(f"{arguments.run}: {outcome.problem}: lower the learning rate ({learning_rate})")
    majority = majority_baseline(settings["kind"], validation_rows)
    best = outcome.epochs[outcome.best_epoch - 1].metrics
    metric, value = next(iter(best.items()))
    if value <= majority:
        low = f"English validation {metric} {value:.1f} is not above the majority class ({majority:.1f})"
        outcome.problem = "; ".join(filter(None, [outcome.problem, low]))
    if outcome.problem:
        logger.warning("%s: %s", arguments.run, outcome.problem)
    with written(arguments.run / "log.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in outcome.lines), encoding="utf-8")
    with written(arguments.run / "weights.safetensors") as temporary:
        save_file(outcome.tensors, temporary)
    write_json(
        arguments.run / "run.json",
        {
            "settings": settings,
            "learning_rate": learning_rate,
            "metric": metric,
            "validation": value,
            "majority": majority,
            **outcome.record(),
            "tuned_parameters": tuned,
            "encoder_parameters": encoder["parameters"],
            "peak_memory_mb": memory_peak(device),
            "stored_bytes": (arguments.run / "weights.safetensors").stat().st_size,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
            "threads": torch.get_num_threads(),
            "versions": {package: version(package) for package in ("torch", "transformers", "numpy")},
        },
    )
    checkpoint.remove()


def _touched(tokens: Tokens) -> Any:
    """The vocabulary ids in the training data, ascending."""
    import numpy as np
    import torch

    return torch.from_numpy(np.unique(tokens.ragged("input_ids").values).astype(np.int64))


if __name__ == "__main__":
    run(main, parser())
