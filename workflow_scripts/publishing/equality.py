"""The check of every export: its logits on texts equal those of the run's model."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from safetensors.torch import load_file

from workflow_scripts.tuning.finished import FinishedRun
from workflow_scripts.tuning.model import TunedModel, restore

# By how much logits may differ, as a share of the largest one or, below 1, absolutely.
TOLERANCE = 1e-5
# In several scripts and lengths: the shorter ones are padded.
TEXTS = (
    "A language is a system of communication.",
    "Sprachen werden gesprochen, geschrieben und gebärdet; viele sterben aus, ohne daß sie jemand beschreibt.",
    "语言是人类交流的工具。",
    "भाषा वह साधन है जिसके द्वारा हम अपने विचारों को व्यक्त करते हैं।",
    "اللغة نسق من الإشارات",
)


def reference(run: FinishedRun) -> TunedModel:
    """Load a run's model as `predict` does, in float32 on the CPU."""
    settings = run.settings.changed(precision="float32")
    return restore(run.encoder, settings, load_file(run.folder / "weights.safetensors")).eval()


def batches(tokenizer: Any, max_length: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield texts as a user would tokenise them: padded, a single text without padding, and pairs of texts."""
    options = {"truncation": True, "max_length": max_length, "return_tensors": "pt"}
    yield dict(tokenizer(list(TEXTS), padding=True, **options))
    yield dict(tokenizer(TEXTS[1], **options))
    yield dict(tokenizer(list(TEXTS), list(reversed(TEXTS)), padding=True, **options))


def difference(
    ours: TunedModel, theirs: Callable[[dict[str, torch.Tensor]], torch.Tensor], tokenizer: Any, max_length: int
) -> float:
    """Return the largest difference of the logits on some texts, as `TOLERANCE` counts it.

    theirs: maps a tokenizer's batch to logits in the form of `TunedModel.forward`. Padding is not compared.
    """
    largest = 0.0
    with torch.inference_mode():
        for batch in batches(tokenizer, max_length):
            expected, found = ours(batch), theirs(batch)
            if found.shape != expected.shape or not found.isfinite().all():
                return float("inf")
            if ours.level == "token":
                shown = batch["attention_mask"].bool()
                expected, found = expected[shown], found[shown]
            scale = max(1.0, expected.abs().max().item())
            largest = max(largest, (found - expected).abs().max().item() / scale)
    return largest
