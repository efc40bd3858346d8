"""Generation: a language model continues texts by the most likely token each time (greedy search).

Not the library's `generate`: prompts, padding on the right and the separate output layer are this project's. Texts are
read once, by the forward pass that training uses, and their keys and values are cached.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from workflow_scripts.tuning.backbone.layers import takes
from workflow_scripts.tuning.backbone.output_layer import OutputLayer
from workflow_scripts.tuning.batches import Batch
from workflow_scripts.tuning.model import TunedModel, encoder_inputs, run_encoder, states_of_texts


@torch.inference_mode()
def continuations(
    model: TunedModel, batch: Batch, limit: int, ends: set[int], ended: Callable[[Sequence[int]], bool]
) -> list[list[int]]:
    """Return the new tokens of each text, without the token that ends them.

    Args:
        model: a model whose head is the pretrained output layer, in evaluation mode.
        batch: `input_ids` and `attention_mask`, (batch, tokens), padded on the right.
        limit: the most new tokens of a text.
        ends: the tokens that end a text.
        ended: whether a text ends after these new tokens.
    """
    output_layer = model.output_layer
    assert output_layer is not None
    reader = (_OfEncoderDecoder if output_layer.has_decoder else _OfDecoder)(model, output_layer, batch)
    texts: list[list[int]] = [[] for _ in batch["input_ids"]]
    growing = set(range(len(texts)))
    try:
        chosen = reader.read().argmax(1)
        while True:
            for number, token in enumerate(chosen.tolist()):
                if number in growing:
                    if token not in ends:
                        texts[number].append(token)
                    if token in ends or len(texts[number]) == limit or ended(texts[number]):
                        growing.remove(number)
            if not growing:
                return texts
            chosen = reader.continue_with(chosen[:, None]).argmax(1)
    finally:
        model.remove_prompts()


class _OfDecoder:
    """Continues texts that a decoder has read.

    The texts are padded on the right, as in training. Their keys and values are then moved to the right, so that new
    tokens follow each text directly: a sliding window counts the cached vectors, not the positions.
    """

    def __init__(self, model: TunedModel, output_layer: OutputLayer, batch: Batch) -> None:
        from transformers import DynamicCache

        self.model, self.output_layer, self.batch = model, output_layer, batch
        # Given the configuration, it would drop vectors beyond a sliding window; the mask hides those anyway.
        self.cache: Any = DynamicCache()

    def read(self) -> torch.Tensor:
        """Read the texts; return the scores of the vocabulary for each one's next token, (batch, vocabulary)."""
        inputs = encoder_inputs([self.model], self.batch)
        output = run_encoder(self.model.encoder, inputs, past_key_values=self.cache, use_cache=True)
        states = states_of_texts(output.last_hidden_state, self.batch)
        lengths = self.batch["attention_mask"].sum(1)
        last = torch.arange(len(lengths), device=lengths.device), lengths - 1
        padding = states.shape[1] - lengths
        self._move(padding)
        shown = inputs["attention_mask"]  # prompts at the input included
        self.shown = (torch.arange(shown.shape[1], device=shown.device) >= padding[:, None]).to(shown.dtype)
        # If the method does not set positions, the model counts all vectors from 0.
        self.next = inputs["position_ids"][last] + 1 if "position_ids" in inputs else shown.sum(1)
        return self.output_layer.scores(states[last][:, None])

    def continue_with(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one more token of each text, (batch, 1); return the same as `read`."""
        encoder = self.model.encoder
        self.shown = torch.nn.functional.pad(self.shown, (0, 1), value=1)
        inputs = {"input_ids": tokens, "attention_mask": self.shown}
        if takes(encoder, "position_ids"):
            inputs["position_ids"] = self.next[:, None]
        self.next = self.next + 1
        output = run_encoder(encoder, inputs, past_key_values=self.cache, use_cache=True)
        return self.output_layer.scores(output.last_hidden_state)

    def _move(self, padding: torch.Tensor) -> None:
        """Move the cached vectors of each text to the right by its padding."""
        for layer in self.cache.layers:
            places = torch.arange(layer.keys.shape[2], device=layer.keys.device)
            places = ((places - padding[:, None]) % len(places))[:, None, :, None]
            layer.keys = layer.keys.gather(2, places.expand(layer.keys.shape))
            layer.values = layer.values.gather(2, places.expand(layer.values.shape))


class _OfEncoderDecoder:
    """Generates texts by the decoder of an encoder-decoder; new texts have no padding."""

    def __init__(self, model: TunedModel, output_layer: OutputLayer, batch: Batch) -> None:
        from transformers import DynamicCache, EncoderDecoderCache

        self.model, self.output_layer, self.batch = model, output_layer, batch
        self.cache: Any = EncoderDecoderCache(DynamicCache(), DynamicCache())

    def read(self) -> torch.Tensor:
        """Read the texts; return the scores of the vocabulary for each first token, (batch, vocabulary)."""
        inputs = encoder_inputs([self.model], self.batch)
        output = run_encoder(self.model.encoder, inputs)
        self.states = states_of_texts(output.last_hidden_state, self.batch)
        return self.continue_with(torch.full_like(self.batch["input_ids"][:, :1], self.output_layer.start or 0))

    def continue_with(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one more token of each new text, (batch, 1); return the same as `read`."""
        return self.output_layer.scores_of_decoder(self.states, self.batch["attention_mask"], tokens, self.cache)
