"""What a GPU is asked to do for a batch, recorded once and replayed for each later batch of the same shape.

A step starts a thousand kernels or more, one by one, which on short texts takes longer than they run: with XLM-R-large
and 32 texts, 45 ms where an H200 computes for 10. A CUDA graph starts them all at once.
"""

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch

from workflow_scripts.tuning.batches import Batch
from workflow_scripts.tuning.memory import is_out_of_memory

logger = logging.getLogger(__name__)

Work = Callable[[Batch], torch.Tensor]


@dataclass
class Recording:
    """A recorded piece of work.

    Attributes:
        graph: what replays it.
        batch: the tensors that it reads, to be filled before.
        result: the tensor that it writes.
    """

    graph: torch.cuda.CUDAGraph
    batch: Batch
    result: torch.Tensor


class Recorder:
    """Does work on batches, the first time kernel by kernel, the second time as a recording, then by replaying that.

    Replaying draws new random numbers, as if the kernels had been started one by one. The work must not wait for the
    GPU, nor decide anything in Python from one batch to the next, and must write its other results to the same memory
    each time: gradients are to be set to zero inside of it, not to None.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # All on one stream: autograd accumulates a parameter's gradient on the stream of its first use.
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()  # Recordings share memory, as no two run at a time.
        self.seen: set[Hashable] = set()
        self.recordings: dict[Hashable, Recording] = {}
        self.records = True

    def do(self, work: Work, batch: Batch, kind: Hashable) -> torch.Tensor:
        """What `work` makes of the batch.

        `kind` tells works apart; batches are told apart by their shapes. Raises what the work raises.
        """
        key = kind, tuple((name, tensor.shape) for name, tensor in batch.items())
        before = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(before)
        try:
            with torch.cuda.stream(self.stream):
                result = self._replay(work, batch, key)
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):  # The recordings' memory is of use to whoever tries again.
                self.forget()
            raise
        before.wait_stream(self.stream)
        return result

    def _replay(self, work: Work, batch: Batch, key: Hashable) -> torch.Tensor:
        if key not in self.recordings and key in self.seen and self.records:
            self._record(work, batch, key)
        recording = self.recordings.get(key)
        if recording is None:
            self.seen.add(key)
            return work(batch)
        for name, tensor in recording.batch.items():
            tensor.copy_(batch[name])
        recording.graph.replay()
        return recording.result.clone()

    def _record(self, work: Work, batch: Batch, key: Hashable) -> None:
        """Record the work, or none from now on where it cannot be recorded."""
        batch = {name: tensor.clone() for name, tensor in batch.items()}
        graph, generator = torch.cuda.CUDAGraph(), torch.cuda.default_generators[self.stream.device.index]
        random = generator.clone_state()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                result = work(batch)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            # The generator would go on believing that it is recorded.
            generator.graphsafe_set_state(random)
        else:
            self.recordings[key] = Recording(graph, batch, result)
            return
        logger.warning("kernels are started one by one, since they cannot be recorded: %s", reason)
        self.forget()

    def forget(self) -> None:
        """Give the recordings' memory back, and record no more."""
        torch.cuda.synchronize(self.device)
        self.recordings.clear()
        self.records = False
