"""Temperature scaling (Guo et al. 2017, section 4.2): one number that calibrates the probabilities of a tuned model.

The logits are divided by the temperature that minimises the negative log-likelihood of the validation set. A
temperature above 1 lowers the probability of every predicted answer; no prediction changes.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from workflow_scripts.tuning.batches import Batch

LOWEST, HIGHEST = 0.05, 20.0
NO_LOSS = 1e-6  # every answer is correct
PRECISION = 1e-3  # of the logarithm: 0.1 % of the temperature

Logits = list[tuple[torch.Tensor, Batch]]  # of each micro-batch, with its targets


def fit_temperature(kind: Any, batches: Logits) -> float | None:
    """The temperature that minimises the kind's mean loss on some logits; None for a kind without probabilities.

    The loss is then the negative log-likelihood, which is convex in the inverse of the temperature. So it has a single
    minimum over the logarithm as well, where Brent's method searches between `LOWEST` and `HIGHEST`. It is 1 if the
    loss vanishes at `LOWEST`: every answer is then correct, and the likelihood has no maximum.

    Args:
        kind: the module `model` or `words` of a kind of task.
        batches: the logits, with the targets that its loss reads.
    """
    if not has_probabilities(kind):
        return None
    from scipy.optimize import minimize_scalar

    counts = [kind.counted(batch) for _, batch in batches]

    def mean_loss(logarithm: float) -> float:
        temperature = math.exp(logarithm)
        losses = [float(kind.loss(logits / temperature, batch)) for logits, batch in batches]
        return sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)

    bounds = math.log(LOWEST), math.log(HIGHEST)
    with torch.inference_mode():
        found = minimize_scalar(mean_loss, bounds=bounds, method="bounded", options={"xatol": PRECISION})
        if mean_loss(bounds[0]) <= NO_LOSS:
            return 1.0
    return float(f"{math.exp(found.x):.4g}")


def has_probabilities(kind: Any) -> bool:
    """Whether a kind's predictions have probabilities; see `kinds.protocol.Model`."""
    return callable(getattr(kind, "probabilities", None))


def keep_on_host(batches: Logits) -> Callable[[torch.Tensor, Batch], None]:
    """A function that adds the logits and targets of a micro-batch to a list, on the host: they take no GPU memory."""

    def keep(logits: torch.Tensor, batch: Batch) -> None:
        batches.append((logits.cpu(), {name: values.cpu() for name, values in batch.items()}))

    return keep
