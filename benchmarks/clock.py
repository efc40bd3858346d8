"""The time that the Hugging Face Trainer's steps take, without what comes before the first and after the last one."""

import time
from typing import Any

from transformers import TrainerCallback


class Clock(TrainerCallback):
    """Notes when the first step of the last training begins and when its last step ends, in seconds."""

    begun = 0.0
    ended = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock at the first step."""
        if state.global_step == 0:
            self.begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.ended = time.perf_counter()
