"""Batches that the memory does not hold: they go through the encoder in smaller parts."""

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from workflow_scripts.experiment.faults import OF_MEMORY

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Portion:
    """How many features go through the encoder at once; halved, for the rest of the job, when they are too many.

    The batch stays as it is, and so does its gradient but for rounding. Dropout draws other masks for other parts.
    """

    def __init__(self, features: int) -> None:
        self.features = features

    def fitted(self, work: Callable[[list[np.ndarray]], Result], chosen: np.ndarray) -> Result:
        """What `work` makes of the chosen features in parts that the memory holds.

        `work` must start anew each time it is called. Raises the machine's own error where one feature is too many.
        """
        while True:
            parts = np.split(chosen, range(self.features, len(chosen), self.features))
            largest = len(parts[0])
            try:
                return work(parts)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or largest == 1:
                    raise
                reason = str(error).splitlines()[0]
            # Not before here: the error's traceback holds on to the tensors.
            self.features = largest // 2
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            logger.warning("out of memory with %d features at once, %d from now on: %s", largest, self.features, reason)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error tells of a GPU's or this machine's memory; PyTorch has a type for its GPU allocator alone."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in str(error) for words in OF_MEMORY)
