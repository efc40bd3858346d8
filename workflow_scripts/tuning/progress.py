"""How a training shows where it stands: one line that renews itself on a terminal, plain lines in its log."""

import logging
import sys
import time
from collections.abc import Sequence

logger = logging.getLogger(__name__)

LOG_SECONDS = 10.0  # between two plain lines


class Progress:
    """Counts steps; shows loss, examples a second and time left."""

    def __init__(self, steps: int, epochs: int, done: int = 0) -> None:
        self.steps = steps
        self.done = done
        self.epochs = epochs
        self.begun = time.monotonic()
        self.logged = -LOG_SECONDS
        self.terminal = sys.stderr.isatty()

    def step(self, step: int, epoch: int, losses: Sequence[float], batch_size: int) -> None:
        """Tell how far it is: the losses are those of the models that are trained together.

        Steps that were taken before an interruption do not count for the speed.
        """
        passed = time.monotonic() - self.begun
        a_second = (step - self.done) / passed
        shown = " ".join(f"{loss:.4f}" for loss in losses)
        left = (self.steps - step) / a_second
        line = (
            f"epoch {epoch}/{self.epochs}  step {step}/{self.steps}  loss {shown}"
            f"  {a_second * batch_size:.0f} examples/s  {left // 60:.0f}:{left % 60:02.0f} left"
        )
        if self.terminal:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        if passed - self.logged >= LOG_SECONDS or step == self.steps:
            self.logged = passed
            logger.info(line)

    def epoch(self, epoch: int, learning_rate: float, metrics: dict[str, float], loss: float) -> None:
        """Tell what the validation after an epoch gave."""
        shown = "  ".join(f"{name} {value:.2f}" for name, value in metrics.items())
        line = "epoch %d/%d  learning rate %g  English validation: %s  loss %.4f"
        logger.info(line, epoch, self.epochs, learning_rate, shown, loss)

    def close(self) -> None:
        """Leave the terminal's line."""
        if self.terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
