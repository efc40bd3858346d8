"""Prompt tuning at the input alone: trained vectors before the word embeddings of each text (Lester et al., 2021).

They go through every layer as words would, and count as the first positions. The head reads the text's own vectors:
Lester's model answers with a decoder and has no such head.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.tuning.batches import Batch
from workflow_scripts.tuning.methods import linear_probe

head, sentence_vector = linear_probe.head, linear_probe.sentence_vector


class InputPrompts(nn.Module):
    """Trained vectors (length, width of the word embeddings) that stand before a text's.

    They begin as the word vectors of tokens drawn at random (Lester et al., section 3.2, who draw from the 5,000 most
    common ones; here from all that the training data holds).
    """

    def __init__(self, encoder: Any, length: int, vocabulary: torch.Tensor | None) -> None:
        super().__init__()
        words = encoder.get_input_embeddings()
        drawn = torch.randint(len(words.weight if vocabulary is None else vocabulary), (length,))
        with torch.no_grad():
            # `forward` is not hooked: in bfloat16 a call may round, and Gemma's scales what stands in the table.
            vectors = words.forward(drawn if vocabulary is None else vocabulary[drawn])
        self.vectors = nn.Parameter(vectors.clone())

    @staticmethod
    def place(prompts: "Sequence[InputPrompts]", inputs: Batch, encoder: Any) -> Batch:
        """The encoder's inputs with embeddings (batch, length + tokens, width) in the place of ids; see `Prompts`."""
        words = encoder.get_input_embeddings()(inputs["input_ids"])
        texts, length = len(words) // len(prompts), len(prompts[0].vectors)
        before = torch.cat([one.vectors.expand(texts, -1, -1) for one in prompts]).to(words.dtype)
        placed = {"inputs_embeds": torch.cat((before, words), dim=1)}
        for name, filler in (("attention_mask", 1), ("token_type_ids", 0)):
            if name in inputs:
                placed[name] = nn.functional.pad(inputs[name], (length, 0), value=filler)
        return placed


def check(encoder: Any) -> None:
    """Raises UserError for ALBERT, whose pooler is given a vector and not the states, so that it reads the prompt."""
    if isinstance(getattr(encoder, "pooler", None), nn.Linear):
        raise UserError(
            f"encoders of the type {encoder.config.model_type!r} pool their states in a way of their own: use another"
            " encoder or leave input_prompt_tuning out"
        )


def prepare(model: Any, settings: dict[str, Any], touched: torch.Tensor | None) -> None:
    """Add the prompts."""
    model.prompts = InputPrompts(model.encoder, settings["prompt_length"], touched)
    model.prompt_length = settings["prompt_length"]
