"""Micro-batches: a batch that does not fit into memory goes through the encoder in smaller parts."""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from workflow_scripts.core.faults import OF_MEMORY
from workflow_scripts.tuning.acceleration.dropout import dropout_state, restore_dropout

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class MicroBatches:
    """Splits batches into micro-batches, whose size is halved for the rest of the job when memory runs out.

    The batch and, up to rounding, its gradient stay the same. Dropout draws different masks for different splits. The
    random numbers of a failed attempt are drawn again, so that the result is that of a training with the smaller size
    from the start of the batch.

    Args:
        size: the most features per micro-batch.
        on_smaller: is called after the size was reduced, before the batch is retried.

    Attributes:
        size: the most features per micro-batch.
    """

    def __init__(self, size: int, on_smaller: Callable[[], None] | None = None) -> None:
        self.size = size
        self.on_smaller = on_smaller

    def run(self, work: Callable[[list[np.ndarray]], Result], chosen: np.ndarray) -> Result:
        """Return `work(parts)` for the chosen features, split into parts that fit into memory.

        `work` is called again after an out-of-memory error and must then start from scratch. Raises the original error
        if even a single feature does not fit.
        """
        random = RandomState.now()
        while True:
            parts = np.split(chosen, range(self.size, len(chosen), self.size))
            largest = len(parts[0])
            try:
                return work(parts)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or largest == 1:
                    raise
                reason = str(error).splitlines()[0]
            # Outside the `except` block: until then the error's traceback keeps the tensors alive.
            self.size = largest // 2
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            logger.warning(
                "out of memory with %d features per micro-batch; continuing with %d: %s", largest, self.size, reason
            )
            random.restore()
            if self.on_smaller is not None:
                self.on_smaller()


@dataclass(frozen=True)
class RandomState:
    """The states of the random number generators that a training draws from.

    Attributes:
        cpu: of PyTorch's generator for the CPU.
        gpu: of that for the current GPU; None if CUDA is not in use.
        dropout: the position in the sequence of dropout masks.
    """

    cpu: torch.Tensor
    gpu: torch.Tensor | None
    dropout: tuple[int, int]

    @classmethod
    def now(cls) -> "RandomState":
        """The current states."""
        return cls(
            torch.get_rng_state(),
            torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
            dropout_state(),
        )

    def restore(self) -> None:
        """Continue from these states."""
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu)
        restore_dropout(self.dropout)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the GPU or the machine is out of memory.

    PyTorch has an exception type for its GPU allocator only; other errors are recognised by their text.
    """
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in str(error) for words in OF_MEMORY)
