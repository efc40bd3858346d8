"""The gradient of a batch, left in the parameters of the models that share it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workflow_scripts.tasks import kind_module
from workflow_scripts.tasks.tokens import Tokens
from workflow_scripts.tuning.batches import Batch, collate
from workflow_scripts.tuning.encoder import padding_id
from workflow_scripts.tuning.model import TunedModel, forward_together
from workflow_scripts.tuning.predict import lower_precision
from workflow_scripts.tuning.recording import Recorder

# Where each shape costs, batches end at few lengths: on a GPU a shape's step is recorded, and on a CPU oneDNN keeps
# some 4 MiB of its products. Of texts of 25 to 85 tokens that was 300 of fine-tuning's 1,930 MiB, for no time.
RECORDED_STEP = 8  # tokens, at multiples of which a recorded batch ends
FINEST_STEP = 2  # the same on a CPU, for a batch or a part of it, unless it is long

# With a frozen encoder a training's memory is what it keeps for the way back, and a part costs no sum of the encoder's
# gradients. On a CPU, which parts of these sizes keep busy, a batch therefore goes through in parts: with them prompt
# tuning takes less than half of fine-tuning's memory.
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
        self.in_parts = frozen and device.type == "cpu" and settings["micro_batch_size"] is None
        recordable = device.type == "cuda" and not settings["compile"] and not settings.get("module")
        self.recorder = Recorder(device) if recordable else None

    def of(
        self, models: Sequence[TunedModel], optimizers: Sequence[torch.optim.Optimizer], parts: Sequence[np.ndarray]
    ) -> torch.Tensor:
        """The losses (models,) of a batch whose features go through the encoder in parts, or in smaller ones."""
        if self.in_parts:
            tokens = FROZEN_TOKENS[self.settings["precision"]] // len(models)
            parts = [smaller for part in parts for smaller in self._split(part, tokens)]
        batches = [self._collated(models[0], part) for part in parts]
        if len(batches) > 1:
            counts = [self.kind.counted(batch) for batch in batches]
            shares = [count / sum(counts) for count in counts]
            self._clear(optimizers)
            losses = [self._add(models, batch, share) for batch, share in zip(batches, shares, strict=True)]
            return torch.stack(losses).sum(0)

        def whole(batch: Batch) -> torch.Tensor:
            self._clear(optimizers)
            return self._add(models, batch)

        if self.recorder is None:
            return whole(batches[0])
        return self.recorder.do(whole, batches[0], kind=tuple(map(id, models)))

    def release(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the memory of used gradients back, but for that which a recording writes to."""
        if self.recorder is None:
            self._clear([optimizer])

    def _clear(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=self.recorder is None)

    def _longest(self, features: np.ndarray) -> int:
        return int(self.tokens.ragged("input_ids").lengths(features).max())

    def _split(self, features: np.ndarray, tokens: int) -> list[np.ndarray]:
        """Halves, quarters or so on, of at most so many tokens or of one feature: few sizes, few shapes."""
        needed = -(-len(features) * self._longest(features) // tokens)
        parts = 1 << (needed - 1).bit_length()
        return np.array_split(features, min(parts, len(features)))

    def _collated(self, model: TunedModel, features: np.ndarray) -> Batch:
        length = self._longest(features)
        step = step_on_cpu(length) if self.device.type == "cpu" else RECORDED_STEP if self.recorder else 1
        length = max(length, min(-(-length // step) * step, self.settings["max_length"]))
        return collate(self.tokens, features, padding_id(model.encoder), self.kind.TARGETS, self.device, length)

    def _add(self, models: Sequence[TunedModel], batch: Batch, share: float = 1.0) -> torch.Tensor:
        """Add the gradient of a share of the losses; that share of them (models,)."""
        with lower_precision(self.device, self.settings["precision"]):
            logits = forward_together(models, batch)
            losses = torch.stack([self.kind.loss(values, batch) for values in logits]) * share
        losses.sum().backward()
        return losses.detach()
