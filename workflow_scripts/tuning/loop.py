"""The training loop: one model, or several on one frozen encoder, and a validation after every epoch."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from workflow_scripts.experiment.errors import Interrupted, UserError
from workflow_scripts.tasks.tokens import Tokens
from workflow_scripts.tuning.batches import training_batches
from workflow_scripts.tuning.checkpoint import Checkpoint, StopSignal
from workflow_scripts.tuning.dropout import dropout_state, restore_dropout
from workflow_scripts.tuning.encoder import is_frozen
from workflow_scripts.tuning.gradients import Gradients
from workflow_scripts.tuning.memory import Portion
from workflow_scripts.tuning.model import TunedModel
from workflow_scripts.tuning.progress import Progress

logger = logging.getLogger(__name__)

FUSED = ("cpu", "cuda")  # devices with a fused AdamW
LOG_EVERY = 10  # steps between two lines of the log, so that the loss is fetched from the device rarely
EXPLODING = 1000.0  # a gradient's norm this many times that of the first steps is told as a problem

Validation = Callable[[TunedModel], tuple[dict[str, float], float]]


@dataclass
class Epoch:
    """An epoch and the English validation set after it.

    Attributes:
        epoch: counted from 1.
        metrics: of the task, in percent, the main one first.
        validation_loss: mean over all targets.
        training_loss: mean over the steps.
        gradient_norm: the largest of the steps, before clipping.
    """

    epoch: int
    metrics: dict[str, float]
    validation_loss: float
    training_loss: float
    gradient_norm: float


@dataclass
class Outcome:
    """What came of the training of one model.

    Attributes:
        epochs: one entry an epoch.
        best_epoch: the epoch whose weights are kept, counted from 1; 0 before the first.
        tensors: the kept weights; none where the first epoch did not end.
        lines: the lines of `log.jsonl`.
        losses, norms: of the steps of the epoch that is under way; (steps,) once they are stacked.
        first_norm: the median norm of the gradient in the first steps.
        diverged: whether the training ended early, at a number that is not finite.
        problem: why the run should not be trusted; empty if nothing is known against it.
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

    PLAIN = ("best_epoch", "lines", "first_norm", "diverged", "problem")  # what a checkpoint holds as JSON

    def give_up(self, problem: str) -> None:
        """End the training of this model: what was kept before is kept."""
        self.diverged, self.problem = True, problem
        self.losses.clear()
        self.norms.clear()


@dataclass
class Candidate:
    """A model in training.

    Attributes:
        model: as built, on the device.
        learning_rate: the highest of the schedule.
        optimizer: of the model's tuned parameters alone.
        outcome: what came of it so far.
    """

    model: TunedModel
    learning_rate: float
    optimizer: torch.optim.Optimizer
    outcome: Outcome


@dataclass
class Course:
    """How far a training is.

    Attributes:
        step: steps taken.
        seconds: spent in them, without validation.
        examples: features seen by each model.
        portion: features that went through the encoder at once in the last step; None before the first.
    """

    step: int = 0
    seconds: float = 0.0
    examples: int = 0
    portion: int | None = None


@dataclass
class Trained:
    """The outcomes, in the order of the models, and the course that they took together."""

    outcomes: list[Outcome]
    course: Course


def learning_rate_factor(settings: dict[str, Any], step: int, steps: int, steps_an_epoch: int) -> float:
    """The factor on the learning rate at a step counted from 0.

    "linear" falls to 0 at the last step (the paper's text); "exponential" is multiplied by `decay` after every epoch
    (0.95 for tagging and question answering in the paper's code). `warmup` is a share of all steps.
    """
    warm = round(settings["warmup"] * steps)
    if step < warm:
        return (step + 1) / warm
    match settings["schedule"]:
        case "linear":
            return (steps - step) / (steps - warm)
        case "exponential":
            return float(settings["decay"] ** (step // steps_an_epoch))
        case _:
            return 1.0


def train(
    models: Sequence[TunedModel],
    tokens: Tokens,
    settings: dict[str, Any],
    learning_rates: Sequence[float],
    validate: Validation,
    checkpoint: Checkpoint,
    device: torch.device,
) -> Trained:
    """Tune one model, or several at a learning rate each that share every pass over a frozen encoder.

    Nothing passes between the models: each has its own parameters, optimizer and gradient clipping, and the gradient
    of the sum of their losses is, for each, the gradient of its own. Goes on from the checkpoint if there is one: the
    outcome is then the same, bit for bit on a CPU, as without the interruption.

    Args:
        models: from `build_together`, on the device.
        tokens: the English training features.
        settings: the merged settings of the run.
        learning_rates: one a model, the highest of its schedule.
        validate: gives the metrics (percent, the main one first) and the loss on the English validation set.
        checkpoint: where the state is saved, at the end of an epoch and every few minutes.
        device: where the models are.

    Raises Interrupted after SIGTERM or Ctrl-C, with the state saved.
    """
    candidates = [
        Candidate(model, rate, optimizer_of(model, rate, settings, device), Outcome())
        for model, rate in zip(models, learning_rates, strict=True)
    ]
    lengths = tokens.ragged("input_ids").lengths()
    steps_an_epoch = math.ceil(len(tokens) / settings["batch_size"])
    steps = steps_an_epoch * settings["epochs"]
    course = resume(checkpoint, candidates, device)
    progress = Progress(steps, settings["epochs"], done=course.step)
    gradients = Gradients(tokens, settings, device, frozen=is_frozen(models[0].encoder))
    portion = Portion(course.portion or settings["micro_batch_size"] or settings["batch_size"])

    def running() -> list[Candidate]:
        return [candidate for candidate in candidates if not candidate.outcome.diverged]

    def take_step(chosen: np.ndarray, epoch: int) -> None:
        """One step of every candidate that is still running."""
        factor = learning_rate_factor(settings, course.step, steps, steps_an_epoch)
        active = running()
        sharing, optimizers = [one.model for one in active], [one.optimizer for one in active]
        losses = portion.fitted(lambda parts: gradients.of(sharing, optimizers, parts), chosen)
        course.portion = portion.features
        course.step += 1
        course.examples += len(chosen)
        shown = course.step % LOG_EVERY == 0 or course.step % steps_an_epoch == 0
        for candidate, loss in zip(active, losses, strict=True):
            groups = candidate.optimizer.param_groups
            for group in groups:
                group["lr"] = candidate.learning_rate * factor
            tuned = [parameter for group in groups for parameter in group["params"]]
            norm = torch.nn.utils.clip_grad_norm_(tuned, settings["gradient_clipping"])
            candidate.optimizer.step()
            gradients.release(candidate.optimizer)
            candidate.outcome.losses.append(loss)
            candidate.outcome.norms.append(norm.detach())
        if shown:
            recent = [add_line(candidate, course.step, factor, epoch) for candidate in active]
            progress.step(course.step, epoch, recent, len(chosen))
        else:
            progress.count(course.step, epoch)

    with StopSignal() as stop:
        while (left := running()) and (epochs_done := len(left[0].outcome.epochs)) < settings["epochs"]:
            epoch = epochs_done + 1
            index = course.step - epochs_done * steps_an_epoch
            batches = training_batches(lengths, settings["batch_size"], settings["seed"], epochs_done)
            for model in models:
                model.train()
            begun = time.perf_counter()
            for chosen in batches[index:]:
                take_step(chosen, epoch)
                if not running():
                    break
                if stop.received or checkpoint.is_due():
                    course.seconds += time.perf_counter() - begun
                    begun = time.perf_counter()
                    save(checkpoint, candidates, course, device)
                    if stop.received:
                        raise Interrupted(f"saved after step {course.step} of {steps}")
            course.seconds += time.perf_counter() - begun
            save(checkpoint, candidates, course, device)
            with stop.at_once(f"saved after step {course.step} of {steps}"):
                for candidate in running():
                    end_epoch(candidate, epoch, settings["keep"], validate)
                    if not candidate.outcome.diverged:
                        last = candidate.outcome.epochs[-1]
                        progress.epoch(epoch, candidate.learning_rate, last.metrics, last.validation_loss)
    progress.close()
    return Trained([candidate.outcome for candidate in candidates], course)


def optimizer_of(
    model: TunedModel, learning_rate: float, settings: dict[str, Any], device: torch.device
) -> torch.optim.Optimizer:
    """AdamW of what is tuned, in one fused pass where the device has one.

    Vectors do not decay: biases and normalisations, which BERT's authors left out as well (Devlin et al. 2019,
    `optimization.py`), and so does the Hugging Face Trainer.
    """
    parameters = list(model.tuned_parameters().values())
    groups = [
        {"params": [one for one in parameters if one.dim() > 1], "weight_decay": settings["weight_decay"]},
        {"params": [one for one in parameters if one.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=learning_rate, fused=device.type in FUSED
    )


def add_line(candidate: Candidate, step: int, factor: float, epoch: int) -> float:
    """Write the means of the last steps into the log, or give the candidate up if they are not numbers; their loss."""
    outcome = candidate.outcome
    loss = torch.stack(outcome.losses[-LOG_EVERY:]).mean().item()
    norms = torch.stack(outcome.norms[-LOG_EVERY:])
    if outcome.first_norm is None:
        outcome.first_norm = norms.median().item()
    norm, rate = norms.mean().item(), candidate.learning_rate * factor
    if not math.isfinite(loss):
        outcome.give_up(f"the loss became {loss} in epoch {epoch}")
    elif not math.isfinite(norm):
        outcome.give_up(f"the gradient's norm became {norm} in epoch {epoch}")
    else:
        outcome.lines.append({"step": step, "loss": loss, "learning_rate": rate, "gradient_norm": norm})
    return loss


def end_epoch(candidate: Candidate, epoch: int, keep: str, validate: Validation) -> None:
    """Validate, and keep the weights if they are the best so far; a loss that is not a number ends the training."""
    outcome, model = candidate.outcome, candidate.model
    training_loss = torch.stack(outcome.losses).mean().item()
    gradient_norm = torch.stack(outcome.norms).max().item()
    metrics, validation_loss = validate(model)
    if not math.isfinite(validation_loss):
        outcome.give_up(f"the validation loss became {validation_loss} in epoch {epoch}")
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


def save(checkpoint: Checkpoint, candidates: Sequence[Candidate], course: Course, device: torch.device) -> None:
    """Save all that the rest of the training depends on."""
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
        if outcome.losses:
            parts |= {"losses": torch.stack(outcome.losses), "norms": torch.stack(outcome.norms)}
        tensors |= {f"{number}/{name}": tensor.contiguous() for name, tensor in parts.items()}
        plain = {name: getattr(outcome, name) for name in Outcome.PLAIN}
        states.append(plain | {"epochs": [asdict(epoch) for epoch in outcome.epochs]})
    checkpoint.save(tensors, {"candidates": states, "course": asdict(course), "dropout": dropout_state()})


def resume(checkpoint: Checkpoint, candidates: Sequence[Candidate], device: torch.device) -> Course:
    """Put models, optimizers and random numbers where the checkpoint left them; the start where there is none."""
    loaded = checkpoint.load()
    if loaded is None:
        return Course()
    tensors, state = loaded
    try:
        for number, (candidate, saved) in enumerate(zip(candidates, state["candidates"], strict=True)):
            prefix = f"{number}/"
            parts = {name.removeprefix(prefix): part for name, part in tensors.items() if name.startswith(prefix)}
            candidate.outcome = outcome_of(saved, parts, device)
            if not candidate.outcome.diverged:
                put_back(candidate, parts, device)
        course = Course(**state["course"])
        torch.set_rng_state(tensors["random"])
        if device.type == "cuda" and "random_cuda" in tensors:  # not where a CPU began
            torch.cuda.set_rng_state(tensors["random_cuda"], device)
        restore_dropout(state["dropout"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        # The key said that it fits, so it was written by hand or by a defect: better to stop than to train half of it.
        raise UserError(f"{checkpoint.path} does not fit the model ({error}): delete it and run again") from error
    logger.info("goes on after step %d from %s", course.step, checkpoint.path)
    return course


def outcome_of(saved: dict[str, Any], parts: dict[str, torch.Tensor], device: torch.device) -> Outcome:
    """The outcome so far, as `save` took it apart."""
    outcome = Outcome(**{name: saved[name] for name in Outcome.PLAIN})
    outcome.epochs = [Epoch(**epoch) for epoch in saved["epochs"]]
    outcome.tensors = {name.removeprefix("kept/"): part for name, part in parts.items() if name.startswith("kept/")}
    if "losses" in parts:
        outcome.losses = list(parts["losses"].to(device).unbind())
        outcome.norms = list(parts["norms"].to(device).unbind())
    return outcome


@torch.no_grad()
def put_back(candidate: Candidate, parts: dict[str, torch.Tensor], device: torch.device) -> None:
    """Give the model and its optimizer the values that were saved."""
    for name, parameter in candidate.model.tuned_parameters().items():
        parameter.copy_(parts[f"tuned/{name}"])
        if f"step/{name}" not in parts:  # It has never had a gradient.
            continue
        candidate.optimizer.state[parameter] = {
            part: parts[f"{part}/{name}"].to("cpu" if part == "step" and device.type == "cpu" else device)
            for part in ("step", "exp_avg", "exp_avg_sq")
        }


def best_epoch(epochs: Iterable[Epoch], keep: str) -> int:
    """The epoch to keep: the highest main metric, the lowest validation loss, or the last; the earlier of equals."""
    epochs = list(epochs)
    if keep == "best_metric":
        return max(epochs, key=lambda epoch: (next(iter(epoch.metrics.values())), -epoch.epoch)).epoch
    if keep == "best_loss":
        return min(epochs, key=lambda epoch: (epoch.validation_loss, epoch.epoch)).epoch
    return epochs[-1].epoch
