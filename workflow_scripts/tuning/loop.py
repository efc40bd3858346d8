"""The training loop: trains one model, or several on one frozen encoder, and evaluates them on the validation set."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from workflow_scripts.core import memory_kills
from workflow_scripts.core.errors import Interrupted, UserError
from workflow_scripts.core.settings import given
from workflow_scripts.kinds import model_part, part
from workflow_scripts.kinds.tokens import Tokens
from workflow_scripts.tuning.acceleration.dropout import dropout_state, restore_dropout
from workflow_scripts.tuning.backbone.layers import is_frozen
from workflow_scripts.tuning.batches import Samples, training_batches
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


def no_temperature() -> float | None:
    """Fit no temperature."""
    return None


@dataclass(frozen=True)
class Validated:
    """The result of a pass over the validation set.

    Attributes:
        metrics: the task's metrics in percent, the main one first.
        loss: mean over all targets.
        temperature: fits the temperature to the logits of the pass; None for a kind without probabilities.
    """

    metrics: dict[str, float]
    loss: float
    temperature: Callable[[], float | None] = no_temperature


Validation = Callable[[TunedModel], Validated]
Oracle = Callable[[TunedModel], dict[str, float]]


def no_oracle(model: TunedModel) -> dict[str, float]:
    """Score no other languages."""
    return {}


@dataclass
class Evaluation:
    """An evaluation on the validation set, and the training since the one before.

    Attributes:
        step: optimizer steps taken.
        epoch: passes over the training set, such as 2.5.
        metrics: the task's metrics in percent, the main one first.
        validation_loss: mean over all targets.
        training_loss: mean over the steps.
        gradient_norm: the largest norm of all steps, before clipping.
        oracle: the main metric on the validation sets of other languages, with the setting `oracle`. Nothing is chosen
            by it.
        temperature: calibrates the probabilities, see `temperature`; None if the weights were not kept then.
    """

    step: int
    epoch: float
    metrics: dict[str, float]
    validation_loss: float
    training_loss: float
    gradient_norm: float
    oracle: dict[str, float] = field(default_factory=dict)
    temperature: float | None = None

    @property
    def main_metric(self) -> float:
        """The value of the main metric."""
        return next(iter(self.metrics.values()))


@dataclass
class Outcome:
    """The result of training one model, so far or at the end.

    Attributes:
        evaluations: one entry per evaluation.
        snapshots: the weights after the evaluations that `keep` keeps, by step, on the host.
        lines: the lines of `log.jsonl`.
        losses, norms: one scalar per step since the last evaluation: loss, and gradient norm before clipping.
        first_norm: the median gradient norm of the first `LOG_EVERY` steps.
        seconds: its share of the time spent in training steps, excluding evaluations.
        diverged: whether training stopped because a loss or gradient norm was not finite.
        stopped: why training stopped before its last step, other than by divergence; empty if it did not.
        problem: why the run should not be trusted; empty if it can be.
    """

    evaluations: list[Evaluation] = field(default_factory=list)
    snapshots: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    norms: list[torch.Tensor] = field(default_factory=list)
    first_norm: float | None = None
    seconds: float = 0.0
    diverged: bool = False
    stopped: str = ""
    problem: str = ""

    # stored in a checkpoint as JSON
    JSON_FIELDS = ("lines", "first_norm", "seconds", "diverged", "stopped", "problem")

    @property
    def is_running(self) -> bool:
        """Whether it is to be trained further."""
        return not (self.diverged or self.stopped)

    @property
    def kept(self) -> list[Evaluation]:
        """The evaluations whose weights are kept, in their order; empty before the first."""
        return [one for one in self.evaluations if one.step in self.snapshots]

    def weights(self) -> dict[str, torch.Tensor]:
        """The kept weights, averaged if they are those of several evaluations; empty before the first."""
        return average(list(self.snapshots.values()))

    def mark_diverged(self, problem: str) -> None:
        """Stop training this model; the kept weights stay."""
        self.diverged, self.problem = True, problem
        self._forget_steps()

    def stop(self, reason: str) -> None:
        """Stop training this model before its last step; the kept weights stay."""
        self.stopped = reason
        self._forget_steps()

    def _forget_steps(self) -> None:
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
        examples: samples seen by all models together; see `batches`.
        micro_batch_size: the most samples per micro-batch in the last step; None before the first.
        tuned_parameters: of one model; None before the first step.
    """

    step: int = 0
    examples: int = 0
    micro_batch_size: int | None = None
    tuned_parameters: int | None = None


@dataclass
class TrainingResult:
    """The outcome of each model, in the models' order, and the progress that they share."""

    outcomes: list[Outcome]
    state: TrainingState


@dataclass(frozen=True)
class Schedule:
    """The steps of a training, and after which of them it is evaluated.

    Attributes:
        settings: the merged settings of the run.
        samples: of the training set.
    """

    settings: TrainingSettings
    samples: int

    @property
    def steps_an_epoch(self) -> int:
        """Optimizer steps of one pass over the training set."""
        return math.ceil(self.samples / self.settings.batch_size)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        steps, most = self.steps_an_epoch * self.settings.epochs, self.settings.max_steps
        return steps if most is None else min(steps, most)

    @property
    def every(self) -> int:
        """Steps between two evaluations."""
        return self.settings.evaluate_every or self.steps_an_epoch

    def is_evaluated(self, step: int) -> bool:
        """Whether an evaluation follows after `step` steps."""
        return step > 0 and (step % self.every == 0 or step == self.steps)

    def evaluation_at(self, share: float) -> int:
        """The step of the first evaluation after a share of all steps."""
        # Rounded: 0.3 of 10 steps are 3, and not 4 because 0.1 has no exact float.
        return min(math.ceil(round(share * self.steps, 6) / self.every) * self.every, self.steps)

    def epoch_of(self, step: int) -> float:
        """The passes over the training set after `step` steps."""
        return round(step / self.steps_an_epoch, 4)

    def learning_rate_factor(self, step: int) -> float:
        """The factor on the learning rate at a step, counted from 0; see `learning_rate_factor`."""
        return learning_rate_factor(self.settings, step, self.steps, self.steps_an_epoch)


def schedule_of(settings: TrainingSettings, tokens: Tokens) -> Schedule:
    """Return the schedule of a training on some features."""
    return Schedule(settings, len(Samples(tokens, part(settings.kind, model_part(settings.answers)).TOGETHER)))


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
    models: Sequence[TunedModel | None],
    tokens: Tokens,
    settings: TrainingSettings,
    learning_rates: Sequence[float],
    validate: Validation,
    checkpoint: Checkpoint,
    device: torch.device,
    until: float = 1.0,
    oracle: Oracle = no_oracle,
) -> TrainingResult:
    """Train one model, or several that share the forward and backward passes through one frozen encoder.

    The models do not influence each other: each has its own parameters, optimizer and gradient clipping, and the
    gradient of the summed losses with respect to a model's parameters is the gradient of its own loss. If there is a
    checkpoint, training resumes from it; on a CPU the result is bit-identical to that of an uninterrupted training.

    Args:
        models: from `build_together`, on the device; None for each one that is not trained further.
        tokens: the training features.
        settings: the merged settings of the run.
        learning_rates: one per model, the peak of its schedule.
        validate: makes a pass over the validation set.
        checkpoint: saved at the end of each epoch and every few minutes.
        device: where the models are.
        until: the share of the steps after which to return, at the next evaluation; the checkpoint then holds
            everything that a later call needs to continue. The schedule of the learning rate is that of the whole
            training.
        oracle: returns the main metric on the validation sets of other languages, at every evaluation.

    Raises Interrupted after SIGTERM or Ctrl-C, once the checkpoint is saved.
    """
    schedule = schedule_of(settings, tokens)
    steps, end = schedule.steps, schedule.evaluation_at(until)
    outcomes = [Outcome() for _ in models]
    candidates = {
        number: Candidate(model, rate, build_optimizer(model, rate, settings, device), outcomes[number])
        for number, (model, rate) in enumerate(zip(models, learning_rates, strict=True))
        if model is not None
    }
    state = resume(checkpoint, outcomes, candidates, device)
    if not candidates:
        return TrainingResult(outcomes, state)
    first = next(iter(candidates.values())).model
    state.tuned_parameters = sum(parameter.numel() for parameter in first.tuned_parameters().values())
    gradients = Gradients(tokens, settings, device, frozen=is_frozen(first.encoder))
    progress = Progress(steps, settings.epochs, done=state.step)
    clock = Clock()

    def keep_smaller_size() -> None:
        """Save the state before the step, so that a resumed training does not try the larger size again."""
        state.micro_batch_size = micro_batches.size
        save(checkpoint, outcomes, candidates, state, settings.precision, device)

    sizes = (settings.batch_size, settings.micro_batch_size, state.micro_batch_size)
    micro_batches = MicroBatches(min(filter(None, sizes)), keep_smaller_size)
    if memory_kills.take(checkpoint.path.parent) and device.type == "cpu" and micro_batches.size > 1:
        logger.warning(
            "killed for memory with %d features per micro-batch; continuing with %d",
            micro_batches.size,
            micro_batches.size // 2,
        )
        micro_batches.size //= 2
        keep_smaller_size()

    def running() -> list[Candidate]:
        return [candidate for candidate in candidates.values() if candidate.outcome.is_running]

    def take_step(chosen: np.ndarray, epoch: int) -> None:
        """Take one optimizer step with each candidate that is running."""
        factor = schedule.learning_rate_factor(state.step)
        active = running()
        sharing, optimizers = [one.model for one in active], [one.optimizer for one in active]
        losses = micro_batches.run(lambda parts: gradients.compute(sharing, optimizers, parts), chosen)
        state.micro_batch_size = micro_batches.size
        state.step += 1
        state.examples += len(chosen) * len(active)
        shown = state.step % LOG_EVERY == 0 or state.step % schedule.steps_an_epoch == 0 or due()
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
        share = clock.passed() / len(active)
        for candidate in active:
            candidate.outcome.seconds += share

    def due() -> bool:
        return schedule.is_evaluated(state.step)

    def evaluate() -> None:
        """Evaluate each candidate that is running and was not evaluated after this step before an interruption."""
        for candidate in running():
            evaluations = candidate.outcome.evaluations
            if not evaluations or evaluations[-1].step < state.step:
                finish_evaluation(candidate, state.step, schedule, validate, oracle)
                if not candidate.outcome.diverged:
                    progress.evaluation(candidate.learning_rate, evaluations[-1])

    with StopSignal() as stop:
        saved = True  # whether the checkpoint holds the current step: it does after resuming
        while True:
            if due():
                message = f"saved after step {state.step} of {steps}"
                with stop.interruptible(message) if saved else contextlib.nullcontext():
                    evaluate()
            if not running() or state.step >= end:
                break
            done, index = divmod(state.step, schedule.steps_an_epoch)
            batches = training_batches(gradients.samples.lengths, settings.batch_size, settings.seed, done)
            for candidate in running():
                candidate.model.train()
            clock.passed()
            for chosen in batches[index:]:
                take_step(chosen, done + 1)
                if not running() or due():
                    break
                if stop.received or checkpoint.is_due():
                    save(checkpoint, outcomes, candidates, state, settings.precision, device)
                    clock.passed()
                    if stop.received:
                        raise Interrupted(f"saved after step {state.step} of {steps}")
            ends_epoch = state.step % schedule.steps_an_epoch == 0
            if saved := ends_epoch or state.step >= end or stop.received or checkpoint.is_due():
                save(checkpoint, outcomes, candidates, state, settings.precision, device)
        if end < steps:
            save(checkpoint, outcomes, candidates, state, settings.precision, device)  # with the evaluation
            if stop.received:
                raise Interrupted(f"saved after step {state.step} of {steps}")
    progress.close()
    return TrainingResult(outcomes, state)


class Clock:
    """Measures the seconds between two calls."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def passed(self) -> float:
        """Seconds since the last call."""
        before, self.last = self.last, time.perf_counter()
        return self.last - before


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


def finish_evaluation(
    candidate: Candidate, step: int, schedule: Schedule, validate: Validation, oracle: Oracle
) -> None:
    """Evaluate, keep the weights if `keep` says so, and stop the training after `patience` evaluations without gain.

    The candidate is marked as diverged if the loss is not finite.
    """
    outcome, model, settings = candidate.outcome, candidate.model, schedule.settings
    training_loss = torch.stack(outcome.losses).mean().item()
    gradient_norm = torch.stack(outcome.norms).max().item()
    validated = validate(model)
    epoch = schedule.epoch_of(step)
    if not math.isfinite(validated.loss):
        outcome.mark_diverged(f"the validation loss became {validated.loss} in epoch {math.ceil(epoch)}")
        return
    first = outcome.first_norm
    if first and gradient_norm > EXPLODING * first and not outcome.problem:
        outcome.problem = (
            f"the gradient exploded in epoch {math.ceil(epoch)}: its norm rose from {first:.2g} to {gradient_norm:.2g}"
        )
    outcome.losses.clear()
    outcome.norms.clear()
    evaluation = Evaluation(step, epoch, validated.metrics, validated.loss, training_loss, gradient_norm, oracle(model))
    outcome.evaluations.append(evaluation)
    keep_weights(outcome, model, settings)
    if step in outcome.snapshots:
        evaluation.temperature = validated.temperature()
    if settings.patience is not None and step < schedule.steps:
        since = evaluations_since_gain(outcome.evaluations, settings.keep)
        if since >= settings.patience:
            outcome.stop(f"no gain in {since} evaluation{'s' if since > 1 else ''}")


def keep_weights(outcome: Outcome, model: TunedModel, settings: TrainingSettings) -> None:
    """Copy the weights after the last evaluation to the host if `keep` keeps them; drop those that it no longer keeps.

    An average is computed at the end, so it takes no device memory.
    """
    steps = {one.step for one in kept_evaluations(outcome.evaluations, settings.keep, settings.averaged)}
    outcome.snapshots = {step: tensors for step, tensors in outcome.snapshots.items() if step in steps}
    last = outcome.evaluations[-1].step
    if last in steps:
        outcome.snapshots[last] = {name: tensor.cpu().clone() for name, tensor in model.tuned_tensors().items()}


def save(
    checkpoint: Checkpoint,
    outcomes: Sequence[Outcome],
    candidates: Mapping[int, Candidate],
    state: TrainingState,
    precision: str,
    device: torch.device,
) -> None:
    """Save everything that the rest of the training depends on."""
    tensors = {"random": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random_cuda"] = torch.cuda.get_rng_state(device)
    states = []
    for number, outcome in enumerate(outcomes):
        parts = {
            f"kept/{step}/{name}": tensor
            for step, tensors_of_step in outcome.snapshots.items()
            for name, tensor in tensors_of_step.items()
        }
        if outcome.is_running and number in candidates:
            candidate = candidates[number]
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
        states.append(plain | {"evaluations": [asdict(one) for one in outcome.evaluations]})
    content = {"candidates": states, "state": asdict(state), "dropout": dropout_state(), "precision": precision}
    checkpoint.save(tensors, content)


def resume(
    checkpoint: Checkpoint, outcomes: Sequence[Outcome], candidates: Mapping[int, Candidate], device: torch.device
) -> TrainingState:
    """Restore outcomes, models, optimizers and random number generators from the checkpoint; return the progress.

    Without a checkpoint nothing changes. Raises UserError if the checkpoint does not fit the models.
    """
    loaded = checkpoint.load()
    if loaded is None:
        return TrainingState()
    tensors, content = loaded
    try:
        for number, (outcome, saved) in enumerate(zip(outcomes, content["candidates"], strict=True)):
            prefix = f"{number}/"
            parts = {name.removeprefix(prefix): part for name, part in tensors.items() if name.startswith(prefix)}
            restore_outcome(outcome, saved, parts, device)
            if outcome.is_running and number in candidates:
                restore_candidate(candidates[number], parts, device)
        state = TrainingState(**content["state"])
        torch.set_rng_state(tensors["random"])
        if device.type == "cuda" and "random_cuda" in tensors:  # absent if the training began on a CPU
            torch.cuda.set_rng_state(tensors["random_cuda"], device)
        restore_dropout(content["dropout"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        # The key matched, so the file was edited or a bug wrote it. Stop: the models may be half restored.
        raise UserError(f"{checkpoint.newest} does not fit the model ({error}): delete it and run again") from error
    logger.info("resuming after step %d from %s", state.step, checkpoint.newest)
    return state


def restore_outcome(
    outcome: Outcome, saved: dict[str, Any], parts: dict[str, torch.Tensor], device: torch.device
) -> None:
    """Restore an outcome from what `save` stored."""
    for name in Outcome.JSON_FIELDS:
        setattr(outcome, name, saved[name])
    outcome.evaluations = [Evaluation(**one) for one in saved["evaluations"]]
    for name, tensor in parts.items():
        if name.startswith("kept/"):
            _, step, own_name = name.split("/", 2)
            outcome.snapshots.setdefault(int(step), {})[own_name] = tensor
    if "losses" in parts:
        outcome.losses = list(parts["losses"].to(device).unbind())
        outcome.norms = list(parts["norms"].to(device).unbind())


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


def kept_evaluations(evaluations: Sequence[Evaluation], keep: str, averaged: int) -> list[Evaluation]:
    """The evaluations whose weights are kept, in their order.

    `keep`: "best_metric" (the highest main metric), "best_loss" (the lowest validation loss), "last", "average" (the
    last `averaged` ones) or "average_best" (the `averaged` ones with the highest main metric). The earlier of two equal
    evaluations wins.
    """
    match keep:
        case "last":
            return list(evaluations[-1:])
        case "average":
            return list(evaluations[-averaged:])
        case _:
            best = sorted(evaluations, key=lambda one: _merit(one, keep), reverse=True)  # stable: the earlier first
            return sorted(best[: averaged if keep == "average_best" else 1], key=lambda one: one.step)


def evaluations_since_gain(evaluations: Sequence[Evaluation], keep: str) -> int:
    """How many evaluations there were since the best: by the loss for `keep: best_loss`, else by the main metric."""
    best = max(range(len(evaluations)), key=lambda at: (_merit(evaluations[at], keep), -at))
    return len(evaluations) - 1 - best


def _merit(evaluation: Evaluation, keep: str) -> float:
    return -evaluation.validation_loss if keep == "best_loss" else evaluation.main_metric


def standing(outcome: Outcome, settings: TrainingSettings, step: int) -> tuple[bool, float]:
    """The rank of a candidate after `step` steps: whether it has a result, and the main metric of the kept weights.

    For averaged weights it is the mean of their metrics.
    """
    kept = kept_evaluations([one for one in outcome.evaluations if one.step <= step], settings.keep, settings.averaged)
    if not kept or (outcome.diverged and outcome.evaluations[-1].step < step):
        return False, 0.0
    return True, sum(one.main_metric for one in kept) / len(kept)


def average(snapshots: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of the weights of several evaluations; of tensors of integers, such as ids, those of the last."""
    if len(snapshots) <= 1:
        return dict(snapshots[0]) if snapshots else {}
    return {
        name: torch.stack([one[name].double() for one in snapshots]).mean(0).to(last.dtype)
        if last.is_floating_point()
        else last
        for name, last in snapshots[-1].items()
    }
