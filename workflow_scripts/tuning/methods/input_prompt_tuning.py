"""Prompt tuning at the input only: trained vectors before the word embeddings of each text (Lester et al., 2021).

The vectors pass through every layer like words and take the first positions. The head reads the text's vectors only;
Lester et al. use a decoder, which has no such head.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from workflow_scripts.core.errors import UserError
from workflow_scripts.tuning.batches import Batch
from workflow_scripts.tuning.methods import linear_probe
from workflow_scripts.tuning.settings import TrainingSettings

head, sentence_vector = linear_probe.head, linear_probe.sentence_vector


class InputPrompts(nn.Module):
    """Trained vectors, (length, width of the word embeddings), that precede the word embeddings of a text.

    They are initialised with the embeddings of random tokens: Lester et al. (section 3.2) draw from the 5,000 most
    common tokens, this class from all tokens in the training data.

    Args:
        encoder: the encoder.
        length: the number of vectors.
        vocabulary: the ids to draw from, (ids,); None for the whole vocabulary.
    """

    def __init__(self, encoder: Any, length: int, vocabulary: torch.Tensor | None) -> None:
        super().__init__()
        words = encoder.get_input_embeddings()
        drawn = torch.randint(len(words.weight if vocabulary is None else vocabulary), (length,))
        with torch.no_grad():
            # `forward` bypasses hooks, which may round to bfloat16, but includes the scaling of Gemma's embeddings.
            vectors = words.forward(drawn if vocabulary is None else vocabulary[drawn])
        self.vectors = nn.Parameter(vectors.float().clone())

    @staticmethod
    def insert(prompts: "Sequence[InputPrompts]", inputs: Batch, encoder: Any) -> Batch:
        """Return the encoder's inputs with embeddings (batch, length + tokens, width) instead of ids.

        Arguments as for `Prompts.insert`.
        """
        words = encoder.get_input_embeddings()(inputs["input_ids"])
        texts, length = len(words) // len(prompts), len(prompts[0].vectors)
        before = torch.cat([one.vectors.expand(texts, -1, -1) for one in prompts]).to(words.dtype)
        placed = {"inputs_embeds": torch.cat((before, words), dim=1)}
        for name, filler in (("attention_mask", 1), ("token_type_ids", 0)):
            if name in inputs:
                placed[name] = nn.functional.pad(inputs[name], (length, 0), value=filler)
        return placed


def check(encoder: Any, settings: TrainingSettings) -> None:
    """Raise UserError for ALBERT: its pooler takes the first position's vector, which would be a prompt's."""
    if isinstance(getattr(encoder, "pooler", None), nn.Linear):
        raise UserError(
            f"encoders of the type {encoder.config.model_type!r} have a pooler that input_prompt_tuning does not"
            " support: use another encoder or leave input_prompt_tuning out"
        )


def prepare(model: Any, settings: TrainingSettings, touched: torch.Tensor | None) -> None:
    """Add the prompts."""
    model.prompts = InputPrompts(model.encoder, settings.prompt_length, touched)
    model.prompt_length = settings.prompt_length
