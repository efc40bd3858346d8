"""Forward and backward pass of a batch: accumulates the gradient in the models' parameters."""

from collections.abc import Sequence

import numpy as np
import torch

from workflow_scripts.kinds import model_part, part
from workflow_scripts.kinds.tokens import Tokens
from workflow_scripts.tuning.acceleration.recording import Recorder
from workflow_scripts.tuning.backbone.positions import padding_id
from workflow_scripts.tuning.batches import Batch, Samples, collate, to_device
from workflow_scripts.tuning.model import TunedModel, forward_together
from workflow_scripts.tuning.predict import lower_precision
from workflow_scripts.tuning.settings import TrainingSettings

CPU = torch.device("cpu")
LOSS_SHARE = "loss_share"  # key in a batch: the part's share of the batch's targets, which weights its mean loss

# Lengths are padded to a multiple of these, to limit the number of shapes: on a GPU the step of each shape is recorded,
# and on a CPU oneDNN caches about 4 MiB per shape (300 of fine-tuning's 1,930 MiB with texts of 25 to 85 tokens; the
# padding takes no measurable time).
RECORDED_STEP = 8  # tokens, for recorded batches on a GPU
FINEST_STEP = 2  # tokens, on a CPU; longer batches use larger steps, see `step_on_cpu`

# Below this many tokens, padding included, a forward and backward pass takes about constant time. What limits it is
# launching kernels on a GPU (unless they are recorded), and summing the encoder's gradients on a CPU.
LEAST_TOKENS = {"cpu": 256, "recorded": 1024, "other": 8192}

# The most tokens of a part, padding included, if the encoder is frozen, on a CPU. Memory is then dominated by what a
# forward pass saves for the backward pass, and an additional part costs no summing of the encoder's gradients. Parts of
# these sizes keep a CPU busy, and prompt tuning takes less than half of fine-tuning's memory.
FROZEN_TOKENS = {"bfloat16": 1408, "float32": 896}


def step_on_cpu(length: int) -> int:
    """Return the multiple, in tokens, to which a batch of this length is padded on a CPU.

    A power of two, between 1/32 and 1/16 of the length but at least `FINEST_STEP`: there are 16 padded lengths between
    a length and its double, so that long batches have no more shapes than short ones.
    """
    return max(FINEST_STEP, 1 << max(length.bit_length() - 5, 0))


class Gradients:
    """Computes losses and accumulates their gradients.

    On a GPU the kernels are recorded, unless the encoder is compiled, layers are recomputed in the backward pass, or
    the method is PEFT's or the user's own, which may branch in Python.

    Args:
        tokens: the training features.
        settings: the merged settings of the run.
        device: where the models are.
        frozen: whether the models' encoder is frozen.

    Attributes:
        samples: what batches consist of.
    """

    def __init__(self, tokens: Tokens, settings: TrainingSettings, device: torch.device, frozen: bool) -> None:
        self.tokens = tokens
        self.settings = settings
        self.device = device
        self.kind = part(settings.kind, model_part(settings.answers))
        self.samples = Samples(tokens, self.kind.TOGETHER)
        self.splits = settings.micro_batch_size is None
        self.most_tokens = FROZEN_TOKENS[settings.precision] if frozen and device.type == "cpu" else None
        own_code = settings.module or settings.peft
        unrecordable = settings.compile or settings.gradient_checkpointing or own_code
        recordable = device.type == "cuda" and not unrecordable
        self.recorder = Recorder(device) if recordable else None
        self.least_tokens = LEAST_TOKENS["cpu" if device.type == "cpu" else "recorded" if recordable else "other"]

    def compute(
        self, models: Sequence[TunedModel], optimizers: Sequence[torch.optim.Optimizer], parts: Sequence[np.ndarray]
    ) -> torch.Tensor:
        """Run forward and backward pass of a batch; return each model's mean loss, (models,).

        Args:
            models: the models that share the encoder; their old gradients are discarded.
            optimizers: the optimizer of each model.
            parts: the batch, split into micro-batches, each an array of sample numbers. They are split further unless
                `micro_batch_size` is set.
        """
        if self.splits:
            parts = [smaller for part in parts for smaller in self._split(part, len(models))]
        batches = [self._collate(models[0], part) for part in parts]
        counts = [self.kind.counted(batch) for batch in batches]
        self._zero_gradients(optimizers)
        losses = [
            self._accumulate(models, batch | {LOSS_SHARE: torch.tensor(count / sum(counts))})
            for batch, count in zip(batches, counts, strict=True)
            if count  # The mean loss over no targets is not a number.
        ]
        return torch.stack(losses).sum(0) if losses else torch.zeros(len(models), device=self.device)

    def release(self, optimizer: torch.optim.Optimizer) -> None:
        """Free the memory of an optimizer's gradients, unless a recording writes to it."""
        if self.recorder is None:
            self._zero_gradients([optimizer])

    def _zero_gradients(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=self.recorder is None)

    def _longest(self, samples: np.ndarray) -> int:
        return int(self.samples.lengths[samples].max())

    def _split(self, samples: np.ndarray, models: int) -> list[np.ndarray]:
        """Split samples into 1, 2, 4, ... equal parts, or into single samples, whichever is estimated to be fastest.

        Samples are sorted by length, so that more parts have less padding but need more passes. Powers of two keep the
        number of shapes small. Parts that exceed `most_tokens` are avoided.
        """
        counts = [*(1 << power for power in range((len(samples) - 1).bit_length())), len(samples)]
        choices = [np.array_split(samples, count) for count in counts]
        sizes = [[models * self.samples.padded_tokens(part) for part in parts] for parts in choices]
        times = [sum(max(tokens, self.least_tokens) for tokens in parts) for parts in sizes]
        fitting = [at for at, parts in enumerate(sizes) if self.most_tokens is None or max(parts) <= self.most_tokens]
        return choices[min(fitting or [len(choices) - 1], key=times.__getitem__)]

    def _collate(self, model: TunedModel, samples: np.ndarray) -> Batch:
        length = self._longest(samples)
        step = step_on_cpu(length) if self.device.type == "cpu" else RECORDED_STEP if self.recorder else 1
        length = max(length, min(-(-length // step) * step, self.settings.max_length))
        features = self.samples.features(samples)
        columns = model.reads | self.kind.TARGETS
        return collate(self.tokens, features, padding_id(model.encoder), columns, CPU, length)

    def _accumulate(self, models: Sequence[TunedModel], batch: Batch) -> torch.Tensor:
        """Accumulate a part's gradients, weighted by its share of the batch; return the weighted losses (models,)."""
        batch = to_device(batch, self.device)
        if self.recorder is None:
            return self._forward_and_backward(models, batch)
        return self.recorder.run(
            lambda part: self._forward_and_backward(models, part), batch, kind=tuple(map(id, models))
        )

    def _forward_and_backward(self, models: Sequence[TunedModel], batch: Batch) -> torch.Tensor:
        with lower_precision(self.device, self.settings.precision):
            logits = forward_together(models, batch)
            losses = torch.stack([self.kind.loss(values, batch) for values in logits])
            if models[0].allocation is not None:
                losses = losses + torch.stack([model.allocation.penalty() for model in models])
            losses = losses * batch[LOSS_SHARE]
        losses.sum().backward()
        models[0].remove_prompts()
        return losses.detach()
