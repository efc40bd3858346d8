"""The training loop: trains one model, or several on one frozen encoder, and validates after every epoch."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from workflow_scripts.core.errors import Interrupted, UserError
from workflow_scripts.core.settings import given
from workflow_scripts.kinds.tokens import Tokens
from workflow_scripts.tuning.acceleration.dropout import dropout_state, restore_dropout
from workflow_scripts.tuning.backbone.layers import is_frozen
from workflow_scripts.tuning.batches import training_batches
from workflow_scripts.tuning.checkpoint import Checkpoint, StopSignal
from workflow_scripts.tuning.gradients import Gradients
from workflow_scripts.tuning.memory import MicroBatches
from workflow_scripts.tuning.model import TunedModel
from workflow_scripts.tuning.progress import Progress
from workflow_scripts.tuning.settings import TrainingSettings

logger = logging.getLogger(__name__)

FUSED_DEVICES = ("cpu", "cuda")  # devices with a fused AdamW
LOG_EVERY = 10  # steps between two log lines: copying the loss from the device makes the host wait for it
EXPLODING = 1000.0  # a gradient norm above this multiple of the first steps' median is reported as a problem

Validation = Callable[[TunedModel], tuple[dict[str, float], float]]


@dataclass
class Epoch:
    """An epoch's training and its validation on the validation set.

    Attributes:
        epoch: counted from 1.
        metrics: the task's metrics in percent, the main one first.
        validation_loss: mean over all targets.
        training_loss: mean over the steps.
        gradient_norm: the largest norm of all steps, before clipping.
    """

    epoch: int
    metrics: dict[str, float]
    validation_loss: float
    training_loss: float
    gradient_norm: float


@dataclass
class Outcome:
    """The result of training one model, so far or at the end.

    Attributes:
        epochs: one entry per epoch.
        best_epoch: the epoch whose weights are kept, counted from 1; 0 before the end of the first.
        tensors: the kept weights; empty if no epoch was completed.
        lines: the lines of `log.jsonl`.
        losses, norms: one scalar per step of the current epoch: loss, and gradient norm before clipping.
        first_norm: the median gradient norm of the first `LOG_EVERY` steps.
        diverged: whether training stopped early because a loss or gradient norm was not finite.
        problem: why the run should not be trusted; empty if there is no reason.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    norms: list[torch.Tensor] = field(default_factory=list)
    first_norm: float | None = None
    diverged: bool = False
    problem: str = ""

    JSON_FIELDS = ("best_epoch", "lines", "first_norm", "diverged", "problem")  # stored in a checkpoint as JSON

    def mark_diverged(self, problem: str) -> None:
        """Stop training this model; the weights of its best epoch stay."""
        self.diverged, self.problem = True, problem
        self.losses.clear()
        self.norms.clear()


@dataclass
class Candidate:
    """A model in training.

    Attributes:
        model: the model, on the device.
        learning_rate: the peak of the schedule.
        optimizer: updates the model's own tuned parameters only.
        outcome: the result so far.
    """

    model: TunedModel
    learning_rate: float
    optimizer: torch.optim.Optimizer
    outcome: Outcome


@dataclass
class TrainingState:
    """Training progress.

    Attributes:
        step: steps taken.
        seconds: time spent in training steps, excluding validation.
        examples: samples seen by each model; see `batches`.
        micro_batch_size: the most samples per micro-batch in the last step; None before the first.
    """

    step: int = 0
    seconds: float = 0.0
    examples: int = 0
    micro_batch_size: int | None = None


@dataclass
class TrainingResult:
    """The outcome of each model, in the models' order, and the progress that they share."""

    outcomes: list[Outcome]
    state: TrainingState


def learning_rate_factor(settings: TrainingSettings, step: int, steps: int, steps_an_epoch: int) -> float:
    """Return the factor on the learning rate at a step, counted from 0.

    `schedule`: "linear" decays to 0 after the last step (the paper's text); "exponential" multiplies by `decay` after
    every epoch (0.95 for tagging and question answering in the paper's code); "constant" keeps the rate. During
    `warmup`, a fraction of all steps, the factor rises linearly to 1.
    """
    warm = round(settings.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    match settings.schedule:
        case "linear":
            return (steps - step) / (steps - warm)
        case "exponential":
            return float(given(settings.decay, "decay") ** (step // steps_an_epoch))
        case _:
            return 1.0


def train(
    models: Sequence[TunedModel],
    tokens: Tokens,
    settings: TrainingSettings,
    learning_rates: Sequence[float],
    validate: Validation,
    checkpoint: Checkpoint,
    device: torch.device,
) -> TrainingResult:
    """Train one model, or several that share the forward and backward passes through one frozen encoder.

    The models do not influence each other: each has its own parameters, optimizer and gradient clipping, and the
    gradient of the summed losses with respect to a model's parameters is the gradient of its own loss. If there is a
    checkpoint, training resumes from it; on a CPU the result is bit-identical to that of an uninterrupted training.

    Args:
        models: from `build_together`, on the device.
        tokens: the training features.
        settings: the merged settings of the run.
        learning_rates: one per model, the peak of its schedule.
        validate: returns the metrics (percent, the main one first) and the loss on the validation set.
        checkpoint: saved at the end of each epoch and every few minutes.
        device: where the models are.

    Raises Interrupted after SIGTERM or Ctrl-C, once the checkpoint is saved.
    """
    candidates = [
        Candidate(model, rate, build_optimizer(model, rate, settings, device), Outcome())
        for model, rate in zip(models, learning_rates, strict=True)
    ]
    gradients = Gradients(tokens, settings, device, frozen=is_frozen(models[0].encoder))
    steps_an_epoch = math.ceil(len(gradients.samples) / settings.batch_size)
    steps = steps_an_epoch * settings.epochs
    state = resume(checkpoint, candidates, device)
    progress = Progress(steps, settings.epochs, done=state.step)
    micro_batches = MicroBatches(state.micro_batch_size or settings.micro_batch_size or settings.batch_size)

    def running() -> list[Candidate]:
        return [candidate for candidate in candidates if not candidate.outcome.diverged]

    def take_step(chosen: np.ndarray, epoch: int) -> None:
        """Take one optimizer step with each candidate that has not diverged."""
        factor = learning_rate_factor(settings, state.step, steps, steps_an_epoch)
        active = running()
        sharing, optimizers = [one.model for one in active], [one.optimizer for one in active]
        losses = micro_batches.run(lambda parts: gradients.compute(sharing, optimizers, parts), chosen)
        state.micro_batch_size = micro_batches.size
        state.step += 1
        state.examples += len(chosen)
        shown = state.step % LOG_EVERY == 0 or state.step % steps_an_epoch == 0
        for candidate, loss in zip(active, losses, strict=True):
            groups = candidate.optimizer.param_groups
            for group in groups:
                group["lr"] = candidate.learning_rate * factor
            tuned = [parameter for group in groups for parameter in group["params"]]
            norm = torch.nn.utils.clip_grad_norm_(tuned, settings.gradient_clipping)
            candidate.optimizer.step()
            if candidate.model.allocation is not None:
                candidate.model.allocation.after_step(state.step, steps)
            gradients.release(candidate.optimizer)
            candidate.outcome.losses.append(loss)
            candidate.outcome.norms.append(norm.detach())
        if shown:
            recent = [log_step(candidate, state.step, factor, epoch) for candidate in active]
            progress.step(state.step, epoch, recent, len(chosen))
        else:
            progress.count(state.step, epoch)

    with StopSignal() as stop:
        while (left := running()) and (epochs_done := len(left[0].outcome.epochs)) < settings.epochs:
            epoch = epochs_done + 1
            index = state.step - epochs_done * steps_an_epoch
            batches = training_batches(gradients.samples.lengths, settings.batch_size, settings.seed, epochs_done)
            for model in models:
                model.train()
            begun = time.perf_counter()
            for chosen in batches[index:]:
                take_step(chosen, epoch)
                if not running():
                    break
                if stop.received or checkpoint.is_due():
                    state.seconds += time.perf_counter() - begun
                    begun = time.perf_counter()
                    save(checkpoint, candidates, state, device)
                    if stop.received:
                        raise Interrupted(f"saved after step {state.step} of {steps}")
            state.seconds += time.perf_counter() - begun
            save(checkpoint, candidates, state, device)
            with stop.interruptible(f"saved after step {state.step} of {steps}"):
                for candidate in running():
                    finish_epoch(candidate, epoch, settings.keep, validate)
                    if not candidate.outcome.diverged:
                        last = candidate.outcome.epochs[-1]
                        progress.epoch(epoch, candidate.learning_rate, last.metrics, last.validation_loss)
    progress.close()
    return TrainingResult([candidate.outcome for candidate in candidates], state)


def build_optimizer(
    model: TunedModel, learning_rate: float, settings: TrainingSettings, device: torch.device
) -> torch.optim.Optimizer:
    """Return AdamW over the tuned parameters, fused where the device supports it.

    Weight decay does not apply to vectors (biases and normalisation weights), as in BERT's `optimization.py` (Devlin et
    al. 2019) and the Hugging Face Trainer.
    """
    parameters = list(model.tuned_parameters().values())
    groups = [
        {"params": [one for one in parameters if one.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [one for one in parameters if one.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=learning_rate, fused=device.type in FUSED_DEVICES
    )


def log_step(candidate: Candidate, step: int, factor: float, epoch: int) -> float:
    """Add the means of the last steps to the run's log, or mark the candidate as diverged if they are not finite.

    Returns the mean loss of these steps.
    """
    outcome = candidate.outcome
    loss = torch.stack(outcome.losses[-LOG_EVERY:]).mean().item()
    norms = torch.stack(outcome.norms[-LOG_EVERY:])
    if outcome.first_norm is None:
        outcome.first_norm = norms.median().item()
    norm, rate = norms.mean().item(), candidate.learning_rate * factor
    if not math.isfinite(loss):
        outcome.mark_diverged(f"the loss became {loss} in epoch {epoch}")
    elif not math.isfinite(norm):
        outcome.mark_diverged(f"the gradient's norm became {norm} in epoch {epoch}")
    else:
        outcome.lines.append({"step": step, "loss": loss, "learning_rate": rate, "gradient_norm": norm})
    return loss


def finish_epoch(candidate: Candidate, epoch: int, keep: str, validate: Validation) -> None:
    """Validate, and keep the weights if they are the best so far; mark as diverged if the loss is not finite."""
    outcome, model = candidate.outcome, candidate.model
    training_loss = torch.stack(outcome.losses).mean().item()
    gradient_norm = torch.stack(outcome.norms).max().item()
    metrics, validation_loss = validate(model)
    if not math.isfinite(validation_loss):
        outcome.mark_diverged(f"the validation loss became {validation_loss} in epoch {epoch}")
        return
    first = outcome.first_norm
    if first and gradient_norm > EXPLODING * first and not outcome.problem:
        outcome.problem = (
            f"the gradient exploded in epoch {epoch}: its norm rose from {first:.2g} to {gradient_norm:.2g}"
        )
    outcome.losses.clear()
    outcome.norms.clear()
    outcome.epochs.append(Epoch(epoch, metrics, validation_loss, training_loss, gradient_norm))
    if best_epoch(outcome.epochs, keep) == epoch:
        outcome.best_epoch = epoch
        outcome.tensors = {name: tensor.cpu().clone() for name, tensor in model.tuned_tensors().items()}


def save(checkpoint: Checkpoint, candidates: Sequence[Candidate], state: TrainingState, device: torch.device) -> None:
    """Save everything that the rest of the training depends on."""
    tensors = {"random": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random_cuda"] = torch.cuda.get_rng_state(device)
    states = []
    for number, candidate in enumerate(candidates):
        outcome = candidate.outcome
        parts = {f"kept/{name}": tensor for name, tensor in outcome.tensors.items()}
        if not outcome.diverged:
            for name, parameter in candidate.model.tuned_parameters().items():
                parts[f"tuned/{name}"] = parameter.detach()
                for part, tensor in candidate.optimizer.state[parameter].items():
                    parts[f"{part}/{name}"] = tensor
            if candidate.model.allocation is not None:
                parts |= {f"allocation/{name}": one for name, one in candidate.model.allocation.state().items()}
        if outcome.losses:
            parts |= {"losses": torch.stack(outcome.losses), "norms": torch.stack(outcome.norms)}
        tensors |= {f"{number}/{name}": tensor.contiguous() for name, tensor in parts.items()}
        plain = {name: getattr(outcome, name) for name in Outcome.JSON_FIELDS}
        states.append(plain | {"epochs": [asdict(epoch) for epoch in outcome.epochs]})
    checkpoint.save(tensors, {"candidates": states, "state": asdict(state), "dropout": dropout_state()})


def resume(checkpoint: Checkpoint, candidates: Sequence[Candidate], device: torch.device) -> TrainingState:
    """Restore models, optimizers and random number generators from the checkpoint and return the progress.

    Without a checkpoint nothing changes. Raises UserError if the checkpoint does not fit the models.
    """
    loaded = checkpoint.load()
    if loaded is None:
        return TrainingState()
    tensors, content = loaded
    try:
        for number, (candidate, saved) in enumerate(zip(candidates, content["candidates"], strict=True)):
            prefix = f"{number}/"
            parts = {name.removeprefix(prefix): part for name, part in tensors.items() if name.startswith(prefix)}
            candidate.outcome = restore_outcome(saved, parts, device)
            if not candidate.outcome.diverged:
                restore_candidate(candidate, parts, device)
        state = TrainingState(**content["state"])
        torch.set_rng_state(tensors["random"])
        if device.type == "cuda" and "random_cuda" in tensors:  # absent if the training began on a CPU
            torch.cuda.set_rng_state(tensors["random_cuda"], device)
        restore_dropout(content["dropout"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        # The key matched, so the file was edited or a bug wrote it. Stop: the models may be half restored.
        raise UserError(f"{checkpoint.path} does not fit the model ({error}): delete it and run again") from error
    logger.info("resuming after step %d from %s", state.step, checkpoint.path)
    return state


def restore_outcome(saved: dict[str, Any], parts: dict[str, torch.Tensor], device: torch.device) -> Outcome:
    """Rebuild an outcome from what `save` stored of it."""
    outcome = Outcome(**{name: saved[name] for name in Outcome.JSON_FIELDS})
    outcome.epochs = [Epoch(**epoch) for epoch in saved["epochs"]]
    outcome.tensors = {name.removeprefix("kept/"): part for name, part in parts.items() if name.startswith("kept/")}
    if "losses" in parts:
        outcome.losses = list(parts["losses"].to(device).unbind())
        outcome.norms = list(parts["norms"].to(device).unbind())
    return outcome


@torch.no_grad()
def restore_candidate(candidate: Candidate, parts: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore the saved values of a model's parameters and of its optimizer's state."""
    for name, parameter in candidate.model.tuned_parameters().items():
        parameter.copy_(parts[f"tuned/{name}"])
        if f"step/{name}" not in parts:  # The parameter never had a gradient.
            continue
        candidate.optimizer.state[parameter] = {
            part: parts[f"{part}/{name}"].to("cpu" if part == "step" and device.type == "cpu" else device)
            for part in ("step", "exp_avg", "exp_avg_sq")
        }
    if candidate.model.allocation is not None:
        prefix = "allocation/"
        state = {name.removeprefix(prefix): one for name, one in parts.items() if name.startswith(prefix)}
        candidate.model.allocation.load(state, device)


def best_epoch(epochs: Iterable[Epoch], keep: str) -> int:
    """Return the number of the epoch to keep.

    `keep`: "best_metric" (the highest main metric), "best_loss" (the lowest validation loss) or "last". The earlier of
    two equal epochs wins.
    """
    epochs = list(epochs)
    if keep == "best_metric":
        return max(epochs, key=lambda epoch: (next(iter(epoch.metrics.values())), -epoch.epoch)).epoch
    if keep == "best_loss":
        return min(epochs, key=lambda epoch: (epoch.validation_loss, epoch.epoch)).epoch
    return epochs[-1].epoch
