"""Training runs, from input files to a run's folder: one run, or the candidates of a search.

A run's folder holds `weights.safetensors` (the tuned weights only), `run.json` (settings, evaluations on the validation
set, cost, versions) and `log.jsonl` (loss, learning rate and gradient norm by step).
"""

import argparse
import contextlib
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from workflow_scripts.core.files import write_json, written
from workflow_scripts.core.fingerprint import METRICS, fingerprint
from workflow_scripts.core.names import MICRO_BATCHES, Values, candidate_name, source_languages
from workflow_scripts.core.settings import given
from workflow_scripts.corpora.schema import read_rows
from workflow_scripts.encoders.record import read_encoder
from workflow_scripts.evaluation.metrics import baseline, score
from workflow_scripts.kinds import model_part, part
from workflow_scripts.kinds import module_of as kind_module
from workflow_scripts.kinds.tokens import Tokens, joined, joined_rows, read_tokens
from workflow_scripts.tuning.acceleration.embedding import ids_in
from workflow_scripts.tuning.acceleration.lean import without_compiler
from workflow_scripts.tuning.backbone.layers import is_frozen
from workflow_scripts.tuning.checkpoint import Checkpoint, checkpoint_key, copied_at_the_end
from workflow_scripts.tuning.device import (
    check_precision,
    device_name,
    find_device,
    find_precision,
    keep_freed_memory,
    memory_peak,
)
from workflow_scripts.tuning.loop import (
    Outcome,
    Schedule,
    TrainingResult,
    TrainingState,
    Validated,
    schedule_of,
    standing,
    train,
)
from workflow_scripts.tuning.model import TunedModel, build_together, restore
from workflow_scripts.tuning.predict import evaluate
from workflow_scripts.tuning.scratch import scratch_folder
from workflow_scripts.tuning.settings import Halving, TrainingSettings
from workflow_scripts.tuning.temperature import Logits, fit_temperature, has_probabilities, keep_on_host

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        values: the learning rate, and what else a search varies; see `core.names.Values`.
        folder: where its files go.
    """

    values: Values
    folder: Path


def tune(
    arguments: argparse.Namespace,
    settings: TrainingSettings,
    passes: Sequence[Sequence[Run]],
    checkpoints: Path,
    halving: Halving | None = None,
) -> list[dict[str, Any]]:
    """Train runs and write their folders.

    Args:
        arguments: the command line of a training step (`train` or `search`).
        settings: the merged settings, without what the runs vary.
        passes: the runs; those in one list share the forward and backward passes through one frozen encoder, and differ
            in the learning rate alone.
        checkpoints: the folder for the checkpoints.
        halving: how candidates leave the search early; None trains all to the end.

    Returns the content of each `run.json`, in the order of the runs. Raises UserError for bad input files, Interrupted
    after SIGTERM or Ctrl-C.
    """
    settings = with_micro_batch_size(settings)
    material = Material.read(arguments, settings)
    checkpoints.mkdir(parents=True, exist_ok=True)
    places = Places(checkpoints, arguments.checkpoint_every, scratch_folder(checkpoints), arguments.copy_every)
    trainings = [Pass(material, settings, runs, places) for runs in passes]
    resolve_precision(trainings, material.device)
    # A user's own method may use parts of PyTorch that need the compiler, such as its profiler or torch.func.
    compiler = contextlib.nullcontext() if settings.compile or settings.module else without_compiler()
    with compiler, copied_at_the_end([training.checkpoint for training in trainings]):
        if halving is not None:
            halve(trainings, halving)
        for training in trainings:
            training.train()
        records = [record for training in trainings for record in training.write()]
    trainings[0].checkpoint.remove()  # those of all passes: they are in one folder
    return records


def with_micro_batch_size(settings: TrainingSettings) -> TrainingSettings:
    """The settings with the workflow's value of `micro_batch_size`, if there is one."""
    sizes = json.loads(os.environ.get(MICRO_BATCHES) or "{}")
    size = sizes.get(settings.task, {}).get(settings.method)
    return settings if size is None else settings.changed(micro_batch_size=size)


def halve(trainings: Sequence["Pass"], halving: Halving) -> None:
    """Train all candidates up to each rung in turn; then drop the worst ones on the validation set.

    Successive halving (Jamieson and Talwalkar 2016) with the schedule of the full training: of n candidates ceil(n /
    factor) remain. A rung is the first evaluation after its share of the steps. The ranking depends only on the
    checkpoints, so an interrupted search repeats it.
    """
    for share in halving.rungs:
        for training in trainings:
            training.train(until=share)
        candidates = [(training, number) for training in trainings for number in training.in_the_search()]
        kept = math.ceil(len(candidates) / halving.factor)
        ranked = sorted(candidates, key=lambda one: one[0].standing(one[1], share), reverse=True)  # stable
        for training, number in ranked[kept:]:
            training.leave(number, share)
    if not any(training.left for training in trainings):
        logger.warning(
            "no candidate left the search early: the only evaluation after search.rungs is the last; set"
            " training.evaluate_every to evaluate more often"
        )


def resolve_precision(trainings: Sequence["Pass"], device: torch.device) -> None:
    """Set the precision of every training: with `precision: auto`, one for all.

    It is the one that the first of them started with, possibly on another machine, or else the faster one here. So a
    training has one precision, and so have the candidates of a search. Raises UserError if the device lacks it.
    """
    for training in trainings:
        check_precision(training.configured.precision, device)
    automatic = [training for training in trainings if training.configured.precision == "auto"]
    if not automatic:
        return
    resumable = [(training, precision) for training in automatic if (precision := training.checkpoint_precision())]
    if resumable:
        first, found = resumable[0]
        check_precision(found, device, first.checkpoint.newest)
        logger.info("resuming in %s, the precision that this training started in", found)
    else:
        found = find_precision("auto", device)
    for training in automatic:
        training.settings = training.configured.changed(precision=found)


@dataclass(frozen=True)
class Material:
    """The shared inputs of the trainings of a job.

    Attributes:
        folder: the encoder's folder.
        encoder: its record.
        tokens: the training features.
        validation_tokens, validation_rows: the validation set.
        others: tokens and rows of the validation sets that `oracle` adds, by language.
        touched: the vocabulary ids in the training data, (ids,).
        ids: those in all texts, (ids,).
        device: where models are trained.
    """

    folder: Path
    encoder: dict[str, Any]
    tokens: Tokens
    validation_tokens: Tokens
    validation_rows: Any
    others: dict[str, tuple[Tokens, Any]]
    touched: torch.Tensor
    ids: torch.Tensor
    device: torch.device

    @classmethod
    def read(cls, arguments: argparse.Namespace, settings: TrainingSettings) -> "Material":
        """Read the input files of a training step. Raises UserError for bad ones."""
        device = find_device()
        tokens = joined(read_all(arguments.train), balanced=settings.union == "balanced")
        for file in getattr(arguments, "shots", []):
            target = read_tokens(file)
            drawn = drawn_features(target, given(settings.shots, "shots"), settings.seed)
            tokens = joined([tokens, target.chosen(drawn)])
        validation_tokens = joined(read_all(arguments.validation))
        validation = [read_rows(file, settings.kind) for file in arguments.validation_rows]
        others = {
            language: (read_tokens(tokens_file), read_rows(rows_file, settings.kind))
            for language, tokens_file, rows_file in zip(
                settings.oracle, arguments.oracle, arguments.oracle_rows, strict=True
            )
        }
        return cls(
            folder=arguments.encoder.parent,
            encoder=read_encoder(arguments.encoder),
            tokens=tokens,
            validation_tokens=validation_tokens,
            validation_rows=joined_rows(dict(zip(source_languages(settings.source), validation, strict=True))),
            others=others,
            touched=ids_in(tokens),
            ids=ids_in(tokens, validation_tokens, *(one for one, _ in others.values())),
            device=device,
        )


@dataclass(frozen=True)
class Places:
    """Where and when the checkpoints of a job are saved; see `Checkpoint`."""

    folder: Path
    every: float
    scratch: Path | None = None
    copy_every: float = math.inf


@dataclass
class Pass:
    """Runs that share the forward and backward passes through one frozen encoder, or a single run.

    Attributes:
        material: the inputs.
        configured: the merged settings of the step.
        runs: the runs.
        places: where and when its checkpoint is saved.
        left: the share of the steps after which a run was dropped from the search, by its number.
    """

    material: Material
    configured: TrainingSettings
    runs: Sequence[Run]
    places: Places
    left: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = dict(self.runs[0].values)
        values.pop("learning_rate")
        self.configured = self.configured.changed(**values)
        self.settings = self.configured
        self.kind = part(self.settings.kind, model_part(self.settings.answers))
        self.scoring = self.settings.scoring(source_languages(self.settings.source)[0])
        self.rates = [run.values["learning_rate"] for run in self.runs]
        self.metrics_code = fingerprint(METRICS, kind_module(self.settings.kind, "metrics"))
        # Without `micro_batch_size`: a training that ran out of memory resumes with a smaller one. `precision` as
        # configured, not as resolved: a training may resume on another machine, in the precision that it started with.
        key = checkpoint_key(
            {name: value for name, value in self.configured.as_json().items() if name != "micro_batch_size"},
            self.metrics_code,
            self.rates,
            self.material.encoder["files"],
            self.material.tokens.record,
            self.material.validation_tokens.record,
        )
        self.checkpoint = Checkpoint(key=key, **vars(self.places))
        self.schedule = schedule_of(self.settings, self.material.tokens)
        self.result: TrainingResult | None = None

    @property
    def trained(self) -> TrainingResult:
        """The result of the last call of `train`."""
        assert self.result is not None
        return self.result

    def checkpoint_precision(self) -> str | None:
        """The precision that an earlier process started this training in; None without a checkpoint."""
        saved = self.checkpoint.peek()
        return None if saved is None else saved.get("precision")

    def in_the_search(self) -> list[int]:
        """The numbers of the runs that are still in the search."""
        return [number for number in range(len(self.runs)) if number not in self.left]

    def standing(self, number: int, share: float) -> tuple[bool, float]:
        """The rank key of a run after a share of the steps; see `loop.standing`."""
        step = self.schedule.evaluation_at(share)
        return standing(self.trained.outcomes[number], self.settings, step)

    def leave(self, number: int, share: float) -> None:
        """Drop a run from the search after a share of the steps, unless that is the end of its training."""
        step, steps = self.schedule.evaluation_at(share), self.schedule.steps
        if step < steps:
            self.left[number] = round(step / steps, 4)
            name = candidate_name(self.runs[number].values)
            logger.info("%s leaves the search after step %d of %d", name, step, steps)

    def train(self, until: float = 1.0) -> None:
        """Train the runs that are still in the search up to a share of the steps; resumes from the checkpoint.

        The models are built for this call only: dropped ones take no memory.
        """
        finished = self._finished(self.schedule.evaluation_at(until))
        needed = [number for number in self.in_the_search() if number not in finished]
        models: list[TunedModel | None] = [None] * len(self.runs)
        if needed:
            built = build_together(
                self.material.folder, self.settings, self.material.touched, len(needed), self.material.ids
            )
            for number, model in zip(needed, built, strict=True):
                models[number] = model.to(self.material.device)
            if not is_frozen(built[0].encoder):  # A frozen encoder gets small micro-batches: no gain, and more memory.
                keep_freed_memory()
            if not built[0].tuned_parameters():  # the method `none`
                self.result = TrainingResult([Outcome()], TrainingState(tuned_parameters=0))
                return
        self.result = train(
            models,
            self.material.tokens,
            self.settings,
            self.rates,
            self.validate,
            self.checkpoint,
            self.material.device,
            until,
            self.oracle,
        )

    def _finished(self, step: int) -> set[int]:
        """The runs that are trained and evaluated up to a step, or are not trained further: by the checkpoint."""
        saved = self.checkpoint.peek()
        if saved is None:
            return set()
        return {
            number
            for number, outcome in enumerate(saved["candidates"])
            if outcome["diverged"]
            or outcome["stopped"]
            or (outcome["evaluations"] and outcome["evaluations"][-1]["step"] >= step)
        }

    def validate(self, model: TunedModel) -> Validated:
        """Make a pass over the validation set."""
        material = self.material
        batches: Logits = []
        predictions, loss = evaluate(
            model,
            material.validation_tokens,
            material.validation_rows,
            self.settings,
            material.device,
            keep_on_host(batches) if has_probabilities(self.kind) else None,
        )
        metrics = score(self.settings.kind, material.validation_rows, predictions, self.scoring)
        return Validated(metrics, loss, lambda: fit_temperature(self.kind, batches))

    def oracle(self, model: TunedModel) -> dict[str, float]:
        """The main metric on the validation set of each language of `oracle`."""
        found = {}
        for language, (tokens, rows) in self.material.others.items():
            predictions, _ = evaluate(model, tokens, rows, self.settings, self.material.device)
            metrics = score(self.settings.kind, rows, predictions, self.settings.scoring(language))
            found[language] = next(iter(metrics.values()))
        return found

    def write(self) -> list[dict[str, Any]]:
        """Write the folder of each run; return the content of each `run.json`."""
        return [self._write_run(number) for number in range(len(self.runs))]

    def _write_run(self, number: int) -> dict[str, Any]:
        run, outcome, state = self.runs[number], self.trained.outcomes[number], self.trained.state
        weights, validated, oracle = self._kept(outcome)
        metric, value = next(iter(validated.metrics.items()))
        majority = baseline(self.settings.kind, self.material.validation_rows, self.scoring)
        problem = outcome.problem
        if value <= majority and number not in self.left:
            low = f"validation {metric} {value:.1f} is not above the majority class ({majority:.1f})"
            problem = "; ".join(filter(None, [problem, low]))
        record = {
            "settings": self.configured.as_json(),
            "precision": self.settings.precision,
            "learning_rate": run.values["learning_rate"],
            "candidate": run.values,
            "metric": metric,
            "validation": value,
            "majority": majority,
            "metrics_code": self.metrics_code,
            **training_fields(outcome, self.trained, self.schedule),
            "problem": problem,
            "temperature": validated.temperature(),
            "oracle": oracle,
            "left_search_after": self.left.get(number),
            "tuned_parameters": state.tuned_parameters,
            "encoder_parameters": self.material.encoder["parameters"],
            "peak_memory_mb": memory_peak(self.material.device),
            "device": device_name(self.material.device),
            "threads": torch.get_num_threads(),
            "versions": {package: version(package) for package in ("torch", "transformers", "numpy")},
        }
        if record["problem"]:
            logger.warning("%s: %s", run.folder, record["problem"])
        write_run(run.folder, outcome, weights, record)
        return record

    def _kept(self, outcome: Outcome) -> tuple[dict[str, torch.Tensor], Validated, dict[str, float]]:
        """The weights to store, their validation and the oracle's scores; of averaged weights both are computed now."""
        weights, kept = outcome.weights(), outcome.kept
        if len(kept) == 1:
            (one,) = kept
            return weights, Validated(one.metrics, one.validation_loss, lambda: one.temperature), one.oracle
        material = self.material
        if kept:
            model = restore(material.folder, self.settings, weights, material.ids)
        else:
            # Not trained, or diverged before the first evaluation: the initial weights, so that the grid can run on.
            (model,) = build_together(material.folder, self.settings, material.touched, 1, material.ids)
            weights = {name: tensor.clone() for name, tensor in model.tuned_tensors().items()}
        return weights, self.validate(model.to(material.device)), self.oracle(model)


def read_all(files: Sequence[Path]) -> list[Tokens]:
    """The tokens of each training language."""
    return [read_tokens(file) for file in files]


def drawn_features(tokens: Tokens, rows: int, seed: int) -> list[int]:
    """The features of some rows that are drawn by the seed: of all rows where there are no more."""
    drawn = np.random.default_rng(seed).permutation(int(tokens.record["rows"]))[:rows]
    return np.flatnonzero(np.isin(tokens.plain("row"), drawn)).tolist()


def training_fields(outcome: Outcome, trained: TrainingResult, schedule: Schedule) -> dict[str, Any]:
    """Return the fields of `run.json` that describe the training.

    `seconds` is the run's share of the time; `examples_per_second` counts the examples of all runs trained together.
    """
    seconds = sum(one.seconds for one in trained.outcomes)
    last = outcome.evaluations[-1] if outcome.evaluations else None
    return {
        "evaluations": [vars(evaluation) for evaluation in outcome.evaluations],
        "epochs": schedule.epoch_of(schedule.steps),
        "steps": schedule.steps,
        "steps_taken": last.step if last else 0,
        "epochs_taken": last.epoch if last else 0.0,
        "kept": [evaluation.step for evaluation in outcome.kept],
        "kept_epoch": outcome.kept[-1].epoch if outcome.kept else 0.0,
        "stopped": outcome.stopped,
        "diverged": outcome.diverged,
        "together": len(trained.outcomes),
        "seconds": round(outcome.seconds, 2),
        "examples_per_second": round(trained.state.examples / seconds, 2) if seconds else None,
    }


def write_run(run: Path, outcome: Outcome, weights: Mapping[str, torch.Tensor], record: dict[str, Any]) -> None:
    """Write the three files of a run, `run.json` last; adds `stored_bytes` to the record."""
    with written(run / "log.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in outcome.lines), encoding="utf-8")
    with written(run / "weights.safetensors") as temporary:
        save_file(dict(weights), temporary)
    record["stored_bytes"] = (run / "weights.safetensors").stat().st_size
    write_json(run / "run.json", record)
