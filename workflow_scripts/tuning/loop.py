"""The training loop: one model, its English training features, a validation after every epoch."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from workflow_scripts.experiment.errors import Interrupted, UserError
from workflow_scripts.tasks import kind_module
from workflow_scripts.tasks.tokens import Tokens
from workflow_scripts.tuning.batches import collate, training_batches
from workflow_scripts.tuning.checkpoint import Checkpoint, StopSignal
from workflow_scripts.tuning.dropout import dropout_state, restore_dropout
from workflow_scripts.tuning.model import TunedModel
from workflow_scripts.tuning.predict import lower_precision, padding_id
from workflow_scripts.tuning.progress import Progress

logger = logging.getLogger(__name__)

FUSED = ("cpu", "cuda")  # devices with a fused AdamW
PLAIN = ("best_epoch", "step", "seconds", "examples", "lines", "problem")  # what a checkpoint holds of an outcome
LOG_EVERY = 10  # steps between two lines of the log, so that the loss is fetched from the device rarely


@dataclass
class Epoch:
    """The English validation set after an epoch: the task's metrics in percent, and the mean training loss."""

    epoch: int
    metrics: dict[str, float]
    validation_loss: float
    training_loss: float


@dataclass
class Outcome:
    """What came of a training.

    Attributes:
        epochs: one entry an epoch.
        best_epoch: the epoch whose weights are kept, counted from 1.
        tensors: the kept weights.
        step: steps taken.
        seconds: in steps alone, without validation.
        examples: features seen.
        lines: the lines of `log.jsonl`.
        losses: of the steps of the epoch that is under way.
        problem: why the run should not be trusted; empty if nothing is known against it.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0
    examples: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    problem: str = ""

    def record(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best_epoch": self.best_epoch,
            "seconds": round(self.seconds, 2),
            "examples_per_second": round(self.examples / self.seconds, 2) if self.seconds else None,
            "problem": self.problem,
        }


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
    model: TunedModel,
    tokens: Tokens,
    settings: dict[str, Any],
    learning_rate: float,
    validate: Callable[[TunedModel], tuple[dict[str, float], float]],
    checkpoint: Checkpoint,
    device: torch.device,
) -> Outcome:
    """Tune the model and return the kept weights with the record of the training.

    Goes on from the checkpoint if there is one: the outcome is then the same, bit for bit on a CPU, as without the
    interruption.

    Args:
        model: as built, on the device.
        tokens: the English training features.
        settings: the merged settings of the run.
        learning_rate: the highest of the schedule.
        validate: gives the metrics (percent, the main one first) and the loss on the English validation set.
        checkpoint: where the state is saved, at the end of an epoch and every few minutes.
        device: where the model is.

    Raises Interrupted after SIGTERM, with the state saved.
    """
    kind = kind_module(settings["kind"])
    parameters = model.tuned_parameters()
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=learning_rate, weight_decay=settings["weight_decay"], fused=device.type in FUSED
    )
    lengths = tokens.ragged("input_ids").lengths()
    steps_an_epoch = math.ceil(len(tokens) / settings["batch_size"])
    steps = steps_an_epoch * settings["epochs"]
    outcome = resume(checkpoint, model, optimizer, device) or Outcome()
    progress = Progress(steps, settings["epochs"], done=outcome.step)
    with StopSignal() as stop:
        while outcome.step < steps and not outcome.problem:
            epoch, index = divmod(outcome.step, steps_an_epoch)
            model.train()
            begun = time.perf_counter()
            batches = training_batches(lengths, settings["batch_size"], settings["seed"], epoch)
            for chosen in batches[index:]:
                rate = learning_rate * learning_rate_factor(settings, outcome.step, steps, steps_an_epoch)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                batch = collate(tokens, chosen, padding_id(model), kind.TARGETS, device)
                with lower_precision(device, settings["precision"]):
                    loss = kind.loss(model(batch), batch)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters.values(), settings["gradient_clipping"])
                optimizer.step()
                outcome.losses.append(loss.detach())
                outcome.step += 1
                outcome.examples += len(chosen)
                if outcome.step % LOG_EVERY == 0 or outcome.step % steps_an_epoch == 0:
                    recent = torch.stack(outcome.losses[-LOG_EVERY:]).mean().item()
                    outcome.lines.append({"step": outcome.step, "loss": recent, "learning_rate": rate})
                    progress.step(outcome.step, epoch + 1, recent, len(chosen))
                if stop.received or checkpoint.is_due():
                    outcome.seconds += time.perf_counter() - begun
                    begun = time.perf_counter()
                    save(checkpoint, outcome, model, optimizer, device)
                    if stop.received:
                        raise Interrupted(f"saved after step {outcome.step} of {steps}")
            outcome.seconds += time.perf_counter() - begun
            end_epoch(outcome, epoch + 1, model, settings["keep"], validate)
            if not outcome.problem:
                progress.epoch(epoch + 1, outcome.epochs[-1].metrics, outcome.epochs[-1].validation_loss)
                if outcome.step < steps:
                    save(checkpoint, outcome, model, optimizer, device)
    progress.close()
    return outcome


def end_epoch(
    outcome: Outcome,
    epoch: int,
    model: TunedModel,
    keep: str,
    validate: Callable[[TunedModel], tuple[dict[str, float], float]],
) -> None:
    """Validate, and keep the weights if they are the best so far; a loss that is not a number ends the training."""
    training_loss = torch.stack(outcome.losses).mean().item()
    outcome.losses.clear()
    if not math.isfinite(training_loss):
        outcome.problem = f"the loss became {training_loss} in epoch {epoch}"
        return
    metrics, validation_loss = validate(model)
    if not math.isfinite(validation_loss):
        outcome.problem = f"the validation loss became {validation_loss} in epoch {epoch}"
        return
    outcome.epochs.append(Epoch(epoch, metrics, validation_loss, training_loss))
    if best_epoch(outcome.epochs, keep) == epoch:
        outcome.best_epoch = epoch
        outcome.tensors = {name: tensor.cpu().clone() for name, tensor in model.tuned_tensors().items()}


def save(
    checkpoint: Checkpoint,
    outcome: Outcome,
    model: TunedModel,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> None:
    """Save all that the rest of the training depends on."""
    tensors = {f"kept/{name}": tensor for name, tensor in outcome.tensors.items()}
    for name, parameter in model.tuned_parameters().items():
        tensors[f"tuned/{name}"] = parameter.detach()
        for part, tensor in optimizer.state[parameter].items():
            tensors[f"{part}/{name}"] = tensor
    if outcome.losses:
        tensors["losses"] = torch.stack(outcome.losses)
    tensors["random"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["random_cuda"] = torch.cuda.get_rng_state(device)
    state = {name: getattr(outcome, name) for name in PLAIN} | {
        "epochs": [asdict(epoch) for epoch in outcome.epochs],
        "dropout": dropout_state(),
    }
    checkpoint.save({name: tensor.contiguous() for name, tensor in tensors.items()}, state)


def resume(
    checkpoint: Checkpoint, model: TunedModel, optimizer: torch.optim.Optimizer, device: torch.device
) -> Outcome | None:
    """Put model, optimizer and random numbers where the checkpoint left them; None where there is no checkpoint."""
    loaded = checkpoint.load()
    if loaded is None:
        return None
    tensors, state = loaded
    try:
        with torch.no_grad():
            for name, parameter in model.tuned_parameters().items():
                parameter.copy_(tensors[f"tuned/{name}"])
                optimizer.state[parameter] = {
                    part: tensors[f"{part}/{name}"].to("cpu" if part == "step" and device.type == "cpu" else device)
                    for part in ("step", "exp_avg", "exp_avg_sq")
                }
        outcome = Outcome(**{name: state[name] for name in PLAIN})
        outcome.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        outcome.tensors = {
            name.removeprefix("kept/"): tensor for name, tensor in tensors.items() if name.startswith("kept/")
        }
        outcome.losses = list(tensors["losses"].to(device).unbind()) if "losses" in tensors else []
        torch.set_rng_state(tensors["random"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random_cuda"], device)
        restore_dropout(state["dropout"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        # The key said that it fits, so it was written by hand or by a defect: better to stop than to train half of it.
        raise UserError(f"{checkpoint.path} does not fit the model ({error}): delete it and run again") from error
    logger.info("goes on after step %d from %s", outcome.step, checkpoint.path)
    return outcome


def best_epoch(epochs: Iterable[Epoch], keep: str) -> int:
    """The epoch to keep: the highest main metric, the lowest validation loss, or the last; the earlier of equals."""
    epochs = list(epochs)
    if keep == "best_metric":
        return max(epochs, key=lambda epoch: (next(iter(epoch.metrics.values())), -epoch.epoch)).epoch
    if keep == "best_loss":
        return min(epochs, key=lambda epoch: (epoch.validation_loss, epoch.epoch)).epoch
    return epochs[-1].epoch
