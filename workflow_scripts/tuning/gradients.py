"""The gradient of a batch, left in the parameters of the models that share it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workflow_scripts.tasks import kind_module
from workflow_scripts.tasks.tokens import Tokens
from workflow_scripts.tuning.batches import Batch, collate, to_device
from workflow_scripts.tuning.encoder import padding_id
from workflow_scripts.tuning.model import TunedModel, forward_together
from workflow_scripts.tuning.predict import lower_precision
from workflow_scripts.tuning.recording import Recorder

CPU = torch.device("cpu")
SHARE = "share"  # in a batch that goes through in parts: the part's share of the targets that the mean loss is over

# Where each shape costs, batches end at few lengths: on a GPU a shape's step is recorded, and on a CPU oneDNN keeps
# some 4 MiB of its products. Of texts of 25 to 85 tokens that was 300 of fine-tuning's 1,930 MiB, for no time.
RECORDED_STEP = 8  # tokens, at multiples of which a recorded batch ends
FINEST_STEP = 2  # the same on a CPU, for a batch or a part of it, unless it is long

# The tokens up to which a pass through the encoder takes about the same time, as something else limits it: on a GPU the
# start of the kernels, unless they are recorded; on a CPU the sum of the encoder's gradients.
LEAST_TOKENS = {"cpu": 256, "recorded": 1024, "other": 8192}

# With a frozen encoder a training's memory is what a forward pass keeps for the backward pass, and a part costs no sum
# of the encoder's gradients. Parts of these sizes keep a CPU busy; with them prompt tuning takes less than half of
# fine-tuning's memory.
FROZEN_TOKENS = {"bfloat16": 1408, "float32": 896}


def step_on_cpu(length: int) -> int:
    """Tokens, at multiples of which a batch of such a length ends: long ones take no more shapes than short ones.

    A power of two, a thirty-second to a sixteenth of the length: there are 16 ends between a length and its double.
    """
    return max(FINEST_STEP, 1 << max(length.bit_length() - 5, 0))


class Gradients:
    """Computes losses and their gradients.

    On a GPU the work is recorded, unless the encoder is compiled or the method is the user's own: that may decide in
    Python what to do next.

    Args:
        tokens: the training features.
        settings: the merged settings of the run.
        device: where the models are.
        frozen: whether the models' encoder is.
    """

    def __init__(self, tokens: Tokens, settings: dict[str, Any], device: torch.device, frozen: bool) -> None:
        self.tokens = tokens
        self.settings = settings
        self.device = device
        self.kind = kind_module(settings["kind"])
        self.splits = settings["micro_batch_size"] is None
        self.most_tokens = FROZEN_TOKENS[settings["precision"]] if frozen and device.type == "cpu" else None
        recordable = device.type == "cuda" and not settings["compile"] and not settings.get("module")
        self.recorder = Recorder(device) if recordable else None
        self.least_tokens = LEAST_TOKENS["cpu" if device.type == "cpu" else "recorded" if recordable else "other"]

    def of(
        self, models: Sequence[TunedModel], optimizers: Sequence[torch.optim.Optimizer], parts: Sequence[np.ndarray]
    ) -> torch.Tensor:
        """The losses (models,) of a batch, whose features go through the encoder in parts, or in smaller ones."""
        if self.splits:
            parts = [smaller for part in parts for smaller in self._split(part, len(models))]
        batches = [self._collated(models[0], part) for part in parts]
        counts = [self.kind.counted(batch) for batch in batches]
        self._clear(optimizers)
        losses = [
            self._add(models, batch | {SHARE: torch.tensor(count / sum(counts))})
            for batch, count in zip(batches, counts, strict=True)
        ]
        return torch.stack(losses).sum(0)

    def release(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the memory of used gradients back, but for that which a recording writes to."""
        if self.recorder is None:
            self._clear([optimizer])

    def _clear(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=self.recorder is None)

    def _longest(self, features: np.ndarray) -> int:
        return int(self.tokens.ragged("input_ids").lengths(features).max())

    def _split(self, features: np.ndarray, models: int) -> list[np.ndarray]:
        """Halves, quarters or so on, in which the features take the least time: few sizes, few shapes.

        Parts of similar length have little padding, many parts have many passes.
        """
        counts = [1 << power for power in range(len(features).bit_length())]
        choices = [np.array_split(features, count) for count in counts]
        sizes = [[models * len(part) * self._longest(part) for part in parts] for parts in choices]
        times = [sum(max(tokens, self.least_tokens) for tokens in parts) for parts in sizes]
        fitting = [at for at, parts in enumerate(sizes) if self.most_tokens is None or max(parts) <= self.most_tokens]
        return choices[min(fitting or [len(choices) - 1], key=times.__getitem__)]

    def _collated(self, model: TunedModel, features: np.ndarray) -> Batch:
        length = self._longest(features)
        step = step_on_cpu(length) if self.device.type == "cpu" else RECORDED_STEP if self.recorder else 1
        length = max(length, min(-(-length // step) * step, self.settings["max_length"]))
        return collate(self.tokens, features, padding_id(model.encoder), self.kind.TARGETS, CPU, length)

    def _add(self, models: Sequence[TunedModel], batch: Batch) -> torch.Tensor:
        """Add the gradient of a part's share of the losses; that share of them (models,)."""
        batch = to_device(batch, self.device)
        if self.recorder is None:
            return self._add_now(models, batch)
        return self.recorder.do(lambda part: self._add_now(models, part), batch, kind=tuple(map(id, models)))

    def _add_now(self, models: Sequence[TunedModel], batch: Batch) -> torch.Tensor:
        with lower_precision(self.device, self.settings["precision"]):
            logits = forward_together(models, batch)
            losses = torch.stack([self.kind.loss(values, batch) for values in logits]) * batch[SHARE]
        losses.sum().backward()
        return losses.detach()
