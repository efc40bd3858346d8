"""The pretrained output layer of a language model, which scores words: the head where `answers` is `words`."""

from typing import Any

import torch
from torch import nn

from workflow_scripts.core.errors import UserError
from workflow_scripts.encoders.architecture import Kind
from workflow_scripts.tuning.batches import Batch


class OutputLayer(nn.Module):
    """All of a language model above its encoder, with what the library computes there: scores are capped or scaled in
    some models, and encoders of masked words have a dense layer below the vocabulary. Of an encoder-decoder this
    includes the decoder.

    The encoder is taken out of the model, so that a method can change it, and run, on its own.

    Args:
        model: the language model of the library.
        encoder: the part of it that `load_encoder` returns.
        kind: what kind of model it is.

    Attributes:
        has_decoder: whether the model is an encoder-decoder.
        is_causal: whether it is a decoder, which predicts each token from earlier ones.
    """

    def __init__(self, model: Any, encoder: nn.Module, kind: Kind) -> None:
        super().__init__()
        self.model = model
        self.has_decoder = kind == "encoder-decoder"
        self.is_causal = kind == "decoder"
        self._vocabulary = (model.get_output_embeddings(),)  # in a tuple, so that no second name is registered for it
        self.start = _start_of(model) if self.has_decoder else None
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if child is encoder:
                    setattr(module, name, _Given())

    def forward(self, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the log-probability of each scored token, (batch, scored tokens), float32.

        Args:
            states: the encoder's last hidden states, (batch, tokens, width).
            batch: with the columns of `kinds.words`.
        """
        if self.has_decoder:
            decoder_ids = nn.functional.pad(batch["decoder_ids"], (1, 0), value=self.start)
            read = _output(states)
            logits = self.model(
                encoder_outputs=read, attention_mask=batch["attention_mask"], decoder_input_ids=decoder_ids
            ).logits
            logits = _rows(logits, batch["read_at"])
        else:
            logits = self.model(inputs_embeds=_rows(states, batch["read_at"])).logits
        scored_at, scored = batch["scored_at"], batch["scored"].clamp(min=0)
        logits = logits.float()
        chosen = _rows(logits, scored_at).gather(2, scored[..., None])[..., 0]
        return chosen - logits.logsumexp(2).gather(1, scored_at)

    def scores(self, states: torch.Tensor) -> torch.Tensor:
        """Return the scores of the vocabulary for the token after the last state, (batch, vocabulary), float32.

        states: of a decoder, (batch, tokens, width).
        """
        scores: torch.Tensor = self.model(inputs_embeds=states[:, -1:]).logits[:, -1].float()
        return scores

    def scores_of_decoder(
        self, states: torch.Tensor, attention_mask: torch.Tensor, tokens: torch.Tensor, cache: Any
    ) -> torch.Tensor:
        """Return the scores of the vocabulary for the token after the last one, (batch, vocabulary), float32.

        Args:
            states: the encoder's last hidden states, (batch, tokens, width).
            attention_mask: of the encoder's tokens, (batch, tokens).
            tokens: the new tokens that the decoder reads after those in the cache, (batch, new tokens).
            cache: the library's cache of what the decoder has read.
        """
        options = {"encoder_outputs": _output(states), "attention_mask": attention_mask, "past_key_values": cache}
        scores: torch.Tensor = self.model(decoder_input_ids=tokens, use_cache=True, **options).logits[:, -1].float()
        return scores

    @property
    def ends(self) -> set[int]:
        """The tokens that end a text, as the checkpoint says."""
        found = self.model.generation_config.eos_token_id
        return set() if found is None else set(found) if isinstance(found, list) else {found}

    def unfreeze(self, encoder: nn.Module) -> None:
        """Train all of it except the vectors of the vocabulary and the parameters that it shares with the encoder."""
        words = {id(module.weight) for module in self.modules() if isinstance(module, nn.Embedding)}
        words |= {id(self._vocabulary[0].weight), *map(id, encoder.parameters())}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) not in words)


class _Given(nn.Module):
    """Replaces the encoder and returns the states that the output layer gets as embeddings."""

    def forward(self, *_: Any, inputs_embeds: torch.Tensor | None = None, **__: Any) -> Any:
        return _output(inputs_embeds)


def _output(states: torch.Tensor | None) -> Any:
    """States as the output of a model of the library."""
    from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

    return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=states)


def _start_of(model: Any) -> int:
    """The token that a decoder's text begins with, as the library's `generate` chooses it."""
    generation = model.generation_config
    decoder = getattr(model.config, "decoder", None)
    candidates = (generation.decoder_start_token_id, generation.bos_token_id, getattr(decoder, "bos_token_id", None))
    start = next((token for token in candidates if token is not None), None)
    if start is None:
        raise UserError(
            f"training.answers: found 'words', but models of the type {model.config.model_type!r} do not say which"
            " token their decoder begins with: write decoder_start_token_id into generation_config.json"
        )
    return int(start)


def _rows(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The vectors of a batch at some places: (batch, tokens, width) and (batch, places) -> (batch, places, width)."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[2]))
