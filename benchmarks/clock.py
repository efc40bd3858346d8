"""Timing the steps of the Hugging Face Trainer, without its setup and teardown."""

import time
from typing import Any

from transformers import TrainerCallback


class Clock(TrainerCallback):
    """Records the start of the first step and the end of the last one, of the latest training, in seconds."""

    started = 0.0
    ended = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the start of the first step."""
        if state.global_step == 0:
            self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the end of a step."""
        self.ended = time.perf_counter()
