"""A tuned model: an encoder, the parameters that a method adds or unfreezes, and a head."""

import contextlib
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import appears, read_json, unreadable
from workflow_scripts.core.own_module import import_file
from workflow_scripts.kinds import model_part, part
from workflow_scripts.kinds.protocol import Fillers, Writer
from workflow_scripts.kinds.tokens import Tokens
from workflow_scripts.tuning.acceleration.accelerate import accelerate
from workflow_scripts.tuning.acceleration.bfloat16 import ALL_BFLOAT16
from workflow_scripts.tuning.acceleration.embedding import ids_in
from workflow_scripts.tuning.acceleration.quantised import check_frozen, check_quantisable
from workflow_scripts.tuning.acceleration.recomputing import RECOMPUTES
from workflow_scripts.tuning.backbone import attention
from workflow_scripts.tuning.backbone.layers import takes
from workflow_scripts.tuning.backbone.loading import load_encoder, load_language_model
from workflow_scripts.tuning.backbone.output_layer import OutputLayer
from workflow_scripts.tuning.backbone.positions import positions_available
from workflow_scripts.tuning.backbone.readout import text_vector_of, text_vectors
from workflow_scripts.tuning.batches import Batch
from workflow_scripts.tuning.device import find_precision, seed_everything
from workflow_scripts.tuning.prompts import AttentionInsert
from workflow_scripts.tuning.settings import TrainingSettings


class TunedModel(nn.Module):
    """An encoder with a head; the method decides which parameters are trained.

    Attributes:
        encoder: the pretrained encoder.
        head: maps text or token vectors to logits.
        level: "sequence" (one output per text), "token" (one per token), or "words" (one per scored token of answers).
        sentence_vector: the vector that the head reads at the sequence level, see `readout.text_vectors`.
        prompts: the prompts, or another `AttentionInsert`, for a method that has them; else None.
        prompt_length: positions that prompts take before those of the text.
        reads: the columns of a token folder that the head reads, with what fills up their lists.
        writer: what turns generated tokens into text, where answers are generated; else None.
        allocation: what a method does after every step and adds to the loss, see `methods.peft.RankAllocation`; else
            None.
    """

    def __init__(self, encoder: Any, head: nn.Module, level: str, sentence_vector: str | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.level = level
        self.sentence_vector = sentence_vector
        self.prompts: Any = None
        self.prompt_length = 0
        self.reads: Fillers = {}
        self.writer: Writer | None = None
        self.allocation: Any = None

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits: (batch, outputs) at the sequence level, (batch, tokens, outputs) at the token level.

        At the level of words they are log-probabilities, (batch, scored tokens).
        """
        return forward_together([self], batch)[0]

    def needs_only_first_token(self) -> bool:
        """Whether the head reads only the first token's last hidden state.

        False for prompts at the input, which take the first positions.
        """
        first_is_text = self.prompts is None or isinstance(self.prompts, AttentionInsert)
        return self.level == "sequence" and self.sentence_vector in ("pooler", "first_token") and first_is_text

    def needs_only_last_token(self) -> bool:
        """Whether the head reads only the last token's last hidden state."""
        return self.level == "sequence" and self.sentence_vector == "last_token"

    def apply_head(self, states: torch.Tensor, pooled: torch.Tensor | None, batch: Batch) -> torch.Tensor:
        """Return the logits; see `forward` for their shape.

        Args:
            states: the encoder's last hidden states, (batch, tokens, width).
            pooled: the pooler's output, (batch, width); None for an encoder without a pooler.
            batch: the inputs, with the columns that the head reads.
        """
        if self.level == "words":
            return self.head(states, batch)
        if self.level == "token":
            return self.head(states)
        assert self.sentence_vector is not None
        return self.head(text_vectors(self.sentence_vector, states, pooled, batch["attention_mask"]))

    @property
    def output_layer(self) -> OutputLayer | None:
        """The pretrained output layer, if it is the head."""
        return self.head if isinstance(self.head, OutputLayer) else None

    def remove_prompts(self) -> None:
        """Remove the prompts of the last forward pass from the layers."""
        if isinstance(self.prompts, AttentionInsert):
            self.prompts.remove()

    def tuned_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def tuned_tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors that a run stores: the trained parameters, and the ids of the trained embedding rows.

        A reparameterised tensor is stored as its value, without the network that produces it.
        """
        tensors = {name: parameter.detach() for name, parameter in self.tuned_parameters().items()}
        tensors |= {name: buffer for name, buffer in self.named_buffers() if name.endswith(".touched")}
        tensors = {name: tensor for name, tensor in tensors.items() if ".parametrizations." not in name}
        for path, module, name in reparameterised(self):
            # The network's output is a transposed view, and safetensors stores contiguous tensors only.
            tensors[f"{path}.{name}"] = getattr(module, name).detach().contiguous()
        return tensors


def reparameterised(model: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """Return each reparameterised tensor as (path of its module, module, name of the tensor)."""
    return [
        (path, module, name)
        for path, module in model.named_modules()
        if parametrize.is_parametrized(module)
        for name in module.parametrizations  # type: ignore[union-attr]
    ]


def forward_together(models: Sequence[TunedModel], batch: Batch) -> list[torch.Tensor]:
    """Return the logits of several models that share one frozen encoder, computed in one forward pass.

    Every model sees the whole batch: the batch is repeated along its first dimension, once per model.
    """
    first, texts = models[0], len(batch["input_ids"])
    output = run_encoder(first.encoder, encoder_inputs(models, batch))
    if not (first.training and getattr(first.encoder, RECOMPUTES, False)):
        first.remove_prompts()  # else the backward pass recomputes the layers, with their prompts
    states, pooled = states_of_texts(output.last_hidden_state, batch), getattr(output, "pooler_output", None)
    if pooled is not None and states.shape != output.last_hidden_state.shape:
        pooled = first.encoder.pooler(states)
    pooled_rows = [None] * len(models) if pooled is None else pooled.split(texts)
    return [
        model.apply_head(rows, vectors, batch)
        for model, rows, vectors in zip(models, states.split(texts), pooled_rows, strict=True)
    ]


def encoder_inputs(models: Sequence[TunedModel], batch: Batch) -> Batch:
    """Return the inputs of the encoder that the models share, and set their prompts in its layers, if they have any.

    The batch is repeated along its first dimension, once per model.
    """
    first = models[0]
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs: Batch = {name: batch[name] for name in names if name in batch and takes(first.encoder, name)}
    if len(models) > 1:
        inputs = {name: values.repeat(len(models), 1) for name, values in inputs.items()}
    if first.prompts is not None:
        inputs = first.prompts.insert([model.prompts for model in models], inputs, first.encoder)
    return inputs


def run_encoder(encoder: Any, inputs: Batch, **options: Any) -> Any:
    """Return the encoder's output, computed without autocast if all of it is in bfloat16."""
    no_autocast = getattr(encoder, ALL_BFLOAT16, False)
    device = inputs["attention_mask"].device.type
    with torch.autocast(device, enabled=False) if no_autocast else contextlib.nullcontext():
        return encoder(**inputs, **options)


def states_of_texts(states: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the states without those of prompts at the input, which passed through the layers like words.

    states: (batch, prompt + tokens, width), or (batch, 1, width) if only the first token's are computed.
    """
    return states[:, max(0, states.shape[1] - batch["input_ids"].shape[1]) :]


def method_module(settings: TrainingSettings) -> ModuleType:
    """Import the module of a run's tuning method: a built-in one, that of PEFT, or the user's file.

    Raises UserError if the file is missing, cannot be imported, or lacks one of the four functions of a method.
    """
    method, file = settings.method, settings.module
    if file is None:
        return importlib.import_module(f"workflow_scripts.tuning.methods.{'peft' if settings.peft else method}")
    try:
        module = import_file(file, "method")
    except UserError as error:
        raise UserError(f"methods.{method}.module: {error}") from error
    for function in ("head", "sentence_vector", "check", "prepare"):
        if not callable(getattr(module, function, None)):
            raise UserError(
                f"methods.{method}.module: {file} has no function {function}; see tuning/methods/__init__.py"
            )
    return module


def build(
    folder: Path, settings: TrainingSettings, touched: torch.Tensor | None, ids: torch.Tensor | None = None
) -> TunedModel:
    """Build the model as it is before training.

    Args:
        folder: the encoder's folder.
        settings: the merged settings of the run.
        touched: the vocabulary ids in the training data, ascending, (ids,); None trains every embedding row.
        ids: the vocabulary ids in all texts that the model will read, (ids,); None keeps every embedding row.

    Raises UserError if texts and prompts need more positions than the encoder has, if the weights are to be quantised
    and cannot be, or if a decoder with bidirectional attention is to answer in words.
    """
    method = method_module(settings)

    def check(encoder: Any) -> None:
        method.check(encoder, settings)
        if settings.quantise:
            check_quantisable(encoder, settings.quantise)

    output_layer, bidirectional = None, settings.attention == "bidirectional"
    if settings.answers == "words":
        encoder, output_layer = load_language_model(folder, attention.NAME, settings.dropout, check)
        if bidirectional and output_layer.is_causal:
            raise UserError(
                "training.attention: found 'bidirectional'; a decoder that answers in words predicts each token from"
                " earlier ones alone: set it to pretrained"
            )
    else:
        encoder = load_encoder(folder, attention.NAME, settings.dropout, check, bidirectional)
    for module in filter(None, (encoder, output_layer)):
        module.requires_grad_(False)
    pretrained = dict(encoder.named_parameters())
    model = _add_head(folder, encoder, output_layer, settings, touched)
    needed, available = settings.max_length + model.prompt_length, positions_available(encoder)
    if needed > available:
        raise UserError(
            f"tasks.{settings.task}.max_length {settings.max_length} and prompt length"
            f" {model.prompt_length} need {needed} positions; encoder {settings.encoder} has {available}:"
            " lower one of them"
        )
    if settings.quantise:
        check_frozen(pretrained, settings.method, settings.quantise)
    accelerate(model, settings, ids)
    return model


def build_together(
    folder: Path, settings: TrainingSettings, touched: torch.Tensor | None, count: int, ids: torch.Tensor | None = None
) -> list[TunedModel]:
    """Build `count` models that share one encoder, all initialised with the settings' seed; see `build`."""
    seed_everything(settings.seed)
    models = [build(folder, settings, touched, ids)]
    for _ in range(1, count):
        seed_everything(settings.seed)
        models.append(_add_head(folder, models[0].encoder, models[0].output_layer, settings, touched))
    return models


def _add_head(
    folder: Path,
    encoder: Any,
    output_layer: OutputLayer | None,
    settings: TrainingSettings,
    touched: torch.Tensor | None,
) -> TunedModel:
    """Put a head on a frozen encoder, or its own output layer, and let the method add or unfreeze its parameters."""
    kind, method = part(settings.kind, model_part(settings.answers)), method_module(settings)
    head_settings = settings if kind.HEAD_DROPOUT else settings.changed(dropout=0.0)
    head = output_layer or method.head(
        kind.LEVEL, encoder.config.hidden_size, kind.outputs(settings.labels), head_settings
    )
    # Settings of tasks on tokens have no `sentence_vector`: their head reads every token's vector.
    sentence_vector = text_vector_of(encoder, method.sentence_vector(settings)) if kind.LEVEL == "sequence" else None
    model = TunedModel(encoder, head, kind.LEVEL, sentence_vector)
    model.reads = getattr(kind, "READ", {})
    if settings.new_tokens:
        model.writer = kind.writer(folder)
    method.prepare(model, settings, touched)
    return model


def restore(
    folder: Path, settings: TrainingSettings, tensors: dict[str, torch.Tensor], ids: torch.Tensor | None = None
) -> TunedModel:
    """Rebuild a model from the tensors that a run stored.

    Args:
        folder: the encoder's folder.
        settings: the merged settings of the run.
        tensors: from `TunedModel.tuned_tensors`.
        ids: the vocabulary ids in all texts that the model will read, (ids,); None allows any id.

    Raises UserError if the tensors do not fit the settings.
    """
    touched = next((tensor for name, tensor in tensors.items() if name.endswith(".touched")), None)
    try:
        model = build(folder, settings, touched, ids)
    except IndexError as error:
        raise UserError(f"the stored weights belong to an encoder with a larger vocabulary ({error})") from error
    for _, module, name in reparameterised(model):
        parametrize.remove_parametrizations(module, name)
    expected = {name: tuple(tensor.shape) for name, tensor in model.tuned_tensors().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        differing = sorted(set(expected.items()) ^ set(found.items()))
        raise UserError(f"the stored weights do not fit the run's settings; the first mismatch is {differing[0][0]}")
    model.load_state_dict(tensors, strict=False)
    return model


def load_run(
    folder: Path, run: Path, device: torch.device, texts: Sequence[Tokens] | None, **changes: Any
) -> tuple[TunedModel, TrainingSettings]:
    """Load a run's model onto a device; return it with its settings.

    Args:
        folder: the encoder's folder.
        run: the run's folder, with `weights.safetensors` and `run.json`.
        device: where to put the model. `precision: auto` is resolved for this device, not for the one that trained.
        texts: all texts that the model will read, so that the embedding table is reduced to their ids; None for texts
            that are not known yet, which keeps the whole table.
        changes: settings that replace the run's, for texts of another task than the one it was tuned on.

    Raises UserError if a file is missing, damaged or belongs to another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    record = run / "run.json"
    settings = TrainingSettings.read(read_json(record)["settings"], f"{record}: settings")
    settings = settings.changed(**changes)
    settings = settings.changed(precision=find_precision(settings.precision, device))
    weights = run / "weights.safetensors"
    appears(weights)
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise unreadable(weights, f"{weights} cannot be read ({error}): delete {run} and run again") from error
    ids = None if texts is None else ids_in(*texts)
    return restore(folder, settings, tensors, ids).to(device), settings
