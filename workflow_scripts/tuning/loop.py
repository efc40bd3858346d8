"""The training loop: one model, its English training features, a validation after every epoch."""

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.tasks import kind_module
from workflow_scripts.tasks.tokens import Tokens
from workflow_scripts.tuning.batches import collate, training_batches
from workflow_scripts.tuning.model import TunedModel
from workflow_scripts.tuning.predict import lower_precision, padding_id
from workflow_scripts.tuning.progress import Progress

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
        seconds: in steps alone, without validation.
        examples: features seen.
        problem: why the run should not be trusted; empty if nothing is known against it.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    examples: int = 0
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
    log: Path,
    device: torch.device,
) -> Outcome:
    """Tune the model and return the kept weights with the record of the training.

    Args:
        model: as built, on the device.
        tokens: the English training features.
        settings: the merged settings of the run.
        learning_rate: the highest of the schedule.
        validate: gives the metrics (percent, the main one first) and the loss on the English validation set.
        log: JSON lines with the step, its loss and its learning rate.
        device: where the model is.
    """
    kind = kind_module(settings["kind"])
    parameters = list(model.tuned_parameters().values())
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, weight_decay=settings["weight_decay"], fused=device.type in ("cpu", "cuda")
    )
    lengths = tokens.ragged("input_ids").lengths()
    steps_an_epoch = math.ceil(len(tokens) / settings["batch_size"])
    steps = steps_an_epoch * settings["epochs"]
    outcome = Outcome()
    progress = Progress(steps, settings["epochs"])
    with log.open("w", encoding="utf-8") as lines:
        for epoch in range(1, settings["epochs"] + 1):
            model.train()
            begun = time.perf_counter()
            losses: list[torch.Tensor] = []
            batches = training_batches(lengths, settings["batch_size"], settings["seed"], epoch)
            for index, chosen in enumerate(batches):
                step = (epoch - 1) * steps_an_epoch + index
                rate = learning_rate * learning_rate_factor(settings, step, steps, steps_an_epoch)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                batch = collate(tokens, chosen, padding_id(model), kind.TARGETS, device)
                with lower_precision(device, settings["precision"]):
                    loss = kind.loss(model(batch), batch)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, settings["gradient_clipping"])
                optimizer.step()
                losses.append(loss.detach())
                outcome.examples += len(chosen)
                if (step + 1) % LOG_EVERY == 0 or index + 1 == len(batches):
                    recent = torch.stack(losses[-LOG_EVERY:]).mean().item()
                    lines.write(json.dumps({"step": step + 1, "loss": recent, "learning_rate": rate}) + "\n")
                    progress.step(step + 1, epoch, recent, outcome.examples)
            outcome.seconds += time.perf_counter() - begun
            training_loss = torch.stack(losses).mean().item()
            if not math.isfinite(training_loss):
                outcome.problem = f"the loss became {training_loss} in epoch {epoch}"
                break
            metrics, validation_loss = validate(model)
            outcome.epochs.append(Epoch(epoch, metrics, validation_loss, training_loss))
            progress.epoch(epoch, metrics, validation_loss)
            if best_epoch(outcome.epochs, settings["keep"]) == epoch:
                outcome.best_epoch = epoch
                outcome.tensors = {name: tensor.cpu().clone() for name, tensor in model.tuned_tensors().items()}
    progress.close()
    return outcome


def best_epoch(epochs: Iterable[Epoch], keep: str) -> int:
    """The epoch to keep: the highest main metric, the lowest validation loss, or the last; the earlier of equals."""
    epochs = list(epochs)
    if keep == "best_metric":
        return max(epochs, key=lambda epoch: (next(iter(epoch.metrics.values())), -epoch.epoch)).epoch
    if keep == "best_loss":
        return min(epochs, key=lambda epoch: (epoch.validation_loss, epoch.epoch)).epoch
    return epochs[-1].epoch
