"""The progress of a training: plain lines in the step's log, and a small status file beside it for a display.

The status file of `logs/train/x.log` is `logs/train/x.status.json`. It holds one JSON object:

    step, steps     steps taken, and those of the whole training
    epoch, epochs   the current epoch, counted from 1, and their number
    losses          training loss of each model that is trained, a mean over the last steps; empty at the start
    seconds_left    estimated from the speed so far, without evaluations

It exists while the training runs. A killed training leaves its last one behind.
"""

import contextlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

LOG_SECONDS = 10.0  # at least this much time between two lines in the log
STATUS_SECONDS = 1.0  # and between two versions of the status file
STATUS_SUFFIX = ".status.json"


class Progress:
    """Counts steps and reports them.

    Args:
        steps: those of the whole training.
        epochs: of the whole training.
        done: steps taken before an interruption; the speed does not include them.
        status: the status file to write; by default the one beside the log file of this process, if it has one.
    """

    def __init__(self, steps: int, epochs: int, done: int = 0, status: Path | None = None) -> None:
        self.steps = steps
        self.epochs = epochs
        self.done = done
        self.status = status or _status_beside_the_log()
        self.started = time.monotonic()
        self.logged = -LOG_SECONDS
        self.written = -STATUS_SECONDS
        self.losses: list[float] = []

    def count(self, step: int, epoch: int) -> None:
        """Note that `step` steps are done. Reads nothing from the device, so every step may call it."""
        passed = time.monotonic() - self.started
        if self.status is None or (passed - self.written < STATUS_SECONDS and step < self.steps):
            return
        self.written = passed
        report = {
            "step": step,
            "steps": self.steps,
            "epoch": epoch,
            "epochs": self.epochs,
            "losses": self.losses,
            "seconds_left": self._seconds_left(step, passed),
        }
        temporary = self.status.with_name(f".{self.status.name}")
        with contextlib.suppress(OSError):  # A training must not fail because its progress cannot be shown.
            temporary.write_text(json.dumps(report), encoding="utf-8")
            temporary.replace(self.status)

    def step(self, step: int, epoch: int, losses: Sequence[float], batch_size: int) -> None:
        """Report `step` steps with the losses of the models that are trained together."""
        self.losses = list(losses)
        self.count(step, epoch)
        passed = time.monotonic() - self.started
        if passed - self.logged < LOG_SECONDS and step < self.steps:
            return
        self.logged = passed
        shown = " ".join(f"{loss:.4f}" for loss in losses)
        speed = (step - self.done) / passed * batch_size
        left = self._seconds_left(step, passed)
        logger.info(
            f"epoch {epoch}/{self.epochs}  step {step}/{self.steps}  loss {shown}"
            f"  {speed:.0f} examples/s  {left // 60:.0f}:{left % 60:02.0f} left"
        )

    def evaluation(self, learning_rate: float, evaluation: Any) -> None:
        """Report an evaluation on the validation set (`loop.Evaluation`)."""
        shown = "  ".join(f"{name} {value:.2f}" for name, value in evaluation.metrics.items())
        line = "epoch %g/%d  learning rate %g  validation: %s  loss %.4f"
        logger.info(line, evaluation.epoch, self.epochs, learning_rate, shown, evaluation.validation_loss)

    def close(self) -> None:
        """Remove the status file."""
        if self.status is not None:
            with contextlib.suppress(OSError):
                self.status.unlink(missing_ok=True)

    def _seconds_left(self, step: int, passed: float) -> float:
        return round((self.steps - step) * passed / max(step - self.done, 1), 1)


def status_of(log: Path) -> Path:
    """The status file of a log file."""
    return log.with_suffix(STATUS_SUFFIX)


def _status_beside_the_log() -> Path | None:
    """That of the log file that the step has opened (`core/step.py`), or None."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            return status_of(Path(handler.baseFilename))
    return None
