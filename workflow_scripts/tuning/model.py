"""A tuned model: an encoder, what a method adds to it or frees in it, and a head."""

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

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.faults import explain
from workflow_scripts.experiment.files import read_json
from workflow_scripts.tasks import kind_module
from workflow_scripts.tasks.tokens import Tokens
from workflow_scripts.tuning import attention, heads
from workflow_scripts.tuning.batches import Batch
from workflow_scripts.tuning.device import find_device, find_precision, seed_everything
from workflow_scripts.tuning.dropout import replace_dropout
from workflow_scripts.tuning.embedding import ids_in, keep_rows
from workflow_scripts.tuning.encoder import is_frozen, load_encoder, positions_available
from workflow_scripts.tuning.first_token import compute_first_token_alone
from workflow_scripts.tuning.packed import pack_frozen
from workflow_scripts.tuning.prompts import Prompts

WHOLE = "wholly_bfloat16"  # the attribute of an encoder that computes in bfloat16 without autocast


class TunedModel(nn.Module):
    """An encoder with a head; a method decides which of its parameters are trained.

    Attributes:
        encoder: the pretrained encoder.
        head: text or token vectors -> logits.
        prompts: the prompts of a method that has them.
        prompt_length: how many prompt vectors a layer has; the text's positions start after them.
    """

    def __init__(self, encoder: Any, head: nn.Module, level: str, sentence_vector: str | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.level = level
        self.sentence_vector = sentence_vector
        self.prompts: Any = None
        self.prompt_length = 0

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits: (batch, outputs) for a task on texts, (batch, tokens, outputs) for a task on tokens."""
        return forward_together([self], batch)[0]

    def reads_first_token_alone(self) -> bool:
        """Whether the last states of all other tokens are of no use; prompts that are words would come first."""
        no_words = self.prompts is None or isinstance(self.prompts, Prompts)
        return self.level == "sequence" and self.sentence_vector != "mean" and no_words

    def read(self, states: torch.Tensor, pooled: torch.Tensor | None, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits of an encoder's last states (batch, tokens, width) and what its pooler made of them (batch, width)."""
        if self.level == "token":
            return self.head(states)
        if self.sentence_vector == "mean":
            return self.head(heads.mean(states, attention_mask))
        return self.head(states[:, 0] if pooled is None or self.sentence_vector != "pooler" else pooled)

    def tuned_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def tuned_tensors(self) -> dict[str, torch.Tensor]:
        """What a run stores: the trained parameters, and the ids of trained embedding rows.

        Of a reparameterised tensor it is the tensor itself, without what makes it.
        """
        tensors = {name: parameter.detach() for name, parameter in self.tuned_parameters().items()}
        tensors |= {name: buffer for name, buffer in self.named_buffers() if name.endswith(".touched")}
        tensors = {name: tensor for name, tensor in tensors.items() if ".parametrizations." not in name}
        for path, module, name in reparameterised(self):
            tensors[f"{path}.{name}"] = getattr(module, name).detach()
        return tensors


def reparameterised(model: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """The reparameterised tensors: the path of the module that has it, the module, the tensor's name."""
    return [
        (path, module, name)
        for path, module in model.named_modules()
        if parametrize.is_parametrized(module)
        for name in module.parametrizations  # type: ignore[union-attr]
    ]


def forward_together(models: Sequence[TunedModel], batch: Batch) -> list[torch.Tensor]:
    """The logits of each of several models that share one frozen encoder, in one pass over it.

    Every model gets the whole batch; the encoder sees the copies one below the other.
    """
    first, texts = models[0], len(batch["input_ids"])
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs: Batch = {name: batch[name] for name in names if name in batch}
    if len(models) > 1:
        inputs = {name: values.repeat(len(models), 1) for name, values in inputs.items()}
    if first.prompts is not None:
        inputs = first.prompts.place([model.prompts for model in models], inputs, first.encoder)
    whole = getattr(first.encoder, WHOLE, False)
    with torch.autocast(batch["input_ids"].device.type, enabled=False) if whole else contextlib.nullcontext():
        output = first.encoder(**inputs)
    if isinstance(first.prompts, Prompts):
        first.prompts.take_away()
    states, pooled = output.last_hidden_state, getattr(output, "pooler_output", None)
    if (before := states.shape[1] - batch["input_ids"].shape[1]) > 0:
        # Prompts that went through the layers as words do: the head and the pooler read the text.
        states = states[:, before:]
        pooled = None if pooled is None else first.encoder.pooler(states)
    vectors = [None] * len(models) if pooled is None else pooled.split(texts)
    return [
        model.read(its_states, its_pooled, batch["attention_mask"])
        for model, its_states, its_pooled in zip(models, states.split(texts), vectors, strict=True)
    ]


def method_module(settings: dict[str, Any]) -> ModuleType:
    """The module of a run's tuning method: one of ours, or the user's file that the settings name.

    Raises UserError for a file that cannot be read, imports what is not installed, or lacks one of the four functions.
    """
    method, file = settings["method"], settings.get("module")
    if file is None:
        return importlib.import_module(f"workflow_scripts.tuning.methods.{method}")
    spec = importlib.util.spec_from_file_location(f"method_{method}", file)
    if spec is None or spec.loader is None or not Path(file).is_file():
        raise UserError(f"methods.{method}.module: {file} is no Python file of this machine")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"methods.{method}.module: {file} imports {error.name}, which is not installed; a method is one file: put"
            " helper functions into it"
        ) from error
    for function in ("head", "sentence_vector", "check", "prepare"):
        if not callable(getattr(module, function, None)):
            raise UserError(
                f"methods.{method}.module: {file} has no function {function}; see tuning/methods/__init__.py"
            )
    return module


def build(
    folder: Path, settings: dict[str, Any], touched: torch.Tensor | None, ids: torch.Tensor | None = None
) -> TunedModel:
    """The model at the start of training.

    Args:
        folder: the encoder's folder.
        settings: the merged settings of the run.
        touched: the vocabulary ids in the training data, ascending; None trains every row of the embeddings.
        ids: the vocabulary ids in all texts that the model will read; None keeps every row of the embeddings.

    Raises UserError when the texts and the prompts need more positions than the encoder has.
    """
    encoder = load_encoder(folder, attention.NAME, dropout=settings["dropout"], check=method_module(settings).check)
    needed, available = settings["max_length"] + settings["prompt_length"], positions_available(encoder)
    if needed > available:
        raise UserError(
            f"tasks.{settings['task']}.max_length {settings['max_length']} and prompt length"
            f" {settings['prompt_length']} need {needed} positions; encoder {settings['encoder']} has {available}:"
            " lower one of them"
        )
    encoder.requires_grad_(False)
    model = _add_head(encoder, settings, touched)
    if ids is not None and not settings.get("module"):  # A user's own method may read the table itself.
        keep_rows(encoder, ids)
    replace_dropout(model)
    if model.reads_first_token_alone():
        compute_first_token_alone(encoder)
    if settings["precision"] == "bfloat16":
        use_bfloat16(encoder)
    if settings["compile"]:
        check_compiler(find_device())
        compile_layers(encoder)
    else:
        pack_frozen(encoder)
    return model


def build_together(
    folder: Path, settings: dict[str, Any], touched: torch.Tensor | None, count: int, ids: torch.Tensor | None = None
) -> list[TunedModel]:
    """`count` models at the start of training, all with the settings' seed; a frozen encoder is loaded once for all."""
    seed_everything(settings["seed"])
    models = [build(folder, settings, touched, ids)]
    for _ in range(1, count):
        seed_everything(settings["seed"])
        models.append(_add_head(models[0].encoder, settings, touched))
    return models


def _add_head(encoder: Any, settings: dict[str, Any], touched: torch.Tensor | None) -> TunedModel:
    """A model on a frozen encoder, with what the method adds or frees."""
    kind, method = kind_module(settings["kind"]), method_module(settings)
    of_head = settings if kind.HEAD_DROPOUT else {**settings, "dropout": 0.0}
    head = method.head(kind.LEVEL, encoder.config.hidden_size, kind.outputs(settings["labels"]), of_head)
    # Settings of tasks on tokens have no `sentence_vector`: their head reads every token's vector.
    sentence_vector = method.sentence_vector(settings) if kind.LEVEL == "sequence" else None
    model = TunedModel(encoder, head, kind.LEVEL, sentence_vector)
    method.prepare(model, settings, touched)
    return model


def use_bfloat16(encoder: Any) -> None:
    """Keep what is frozen in bfloat16, which autocast would convert in every step, and so the states between layers.

    Embeddings stay in float32. An encoder of which nothing is tuned then needs no autocast, whose conversions around
    every normalisation were a quarter of the kernels of a step on a GPU. Else only frozen matrices are converted: what
    is tuned stays in float32, a bias beside one of them too.
    """
    # EuroBERT and EmbeddingGemma have no such module: there the word vectors are the first states.
    first = getattr(encoder, "embeddings", None) or encoder.get_input_embeddings()
    whole = is_frozen(encoder)
    kept, words = set(first.modules()), set(encoder.get_input_embeddings().modules())
    for module in encoder.modules():
        converted = module not in kept and (whole or isinstance(module, nn.Linear))
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad and (converted or module not in words):
                # What stays as it is, is copied too: one view of the mapped checkpoint would hold on to all its pages.
                parameter.data = parameter.data.to(torch.bfloat16 if converted else parameter.dtype, copy=True)
    setattr(encoder, WHOLE, whole)
    first.register_forward_hook(lambda module, inputs, states: states.to(torch.bfloat16))


def check_compiler(device: torch.device) -> None:
    """Have PyTorch compile one operation: only that shows whether what its compiler needs is there.

    On a CPU that is a C++ compiler, on a GPU Triton, a C compiler and Python's headers. What it prepares once for a
    processor takes half a minute and stays in its cache, where the encoder's layers find it.

    Raises UserError.
    """
    try:
        torch.compile(torch.sin, dynamic=True)(torch.ones(8, device=device))
    except Exception as error:
        if explain(error):  # a full disk, too little memory
            raise
        needed = "Triton, a C compiler and Python's headers" if device.type == "cuda" else "a C++ compiler"
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"training.compile: PyTorch's compiler needs {needed} and fails here ({reason}): install what is missing"
            " (Debian: apt-get install g++ python3-dev), name another C++ compiler in the environment variable CXX, or"
            " set compile: false"
        ) from error


def compile_layers(encoder: Any) -> None:
    """Have PyTorch compile what each layer computes, for texts of any length.

    Layers are alike, so the first one's program serves them all: of twelve it was ready in a fifth of the time that
    the whole encoder's took. An architecture that keeps no list of its layers is compiled as a whole.
    """
    depth = encoder.config.num_hidden_layers
    lists = [module for module in encoder.modules() if isinstance(module, nn.ModuleList) and len(module) == depth]
    # First layer or later, training or prediction, a full batch or the last one: each has a program of its own.
    torch._dynamo.config.recompile_limit = 64
    for module in lists[0] if lists else [encoder]:
        module.compile(dynamic=True)


def restore(
    folder: Path, settings: dict[str, Any], tensors: dict[str, torch.Tensor], ids: torch.Tensor | None = None
) -> TunedModel:
    """The model as a run stored it, for texts with the given vocabulary ids or, without them, with any.

    Raises UserError when the tensors are not those of such a run.
    """
    touched = next((tensor for name, tensor in tensors.items() if name.endswith(".touched")), None)
    try:
        model = build(folder, settings, touched, ids)
    except IndexError as error:
        raise UserError(f"the stored weights are of an encoder with a larger vocabulary ({error})") from error
    for _, module, name in reparameterised(model):
        parametrize.remove_parametrizations(module, name)
    expected = {name: tuple(tensor.shape) for name, tensor in model.tuned_tensors().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        differing = sorted(set(expected.items()) ^ set(found.items()))
        raise UserError(f"the stored weights do not fit the run's settings, first at {differing[0][0]}")
    model.load_state_dict(tensors, strict=False)
    return model


def load_run(
    folder: Path, run: Path, device: torch.device, texts: Sequence[Tokens], **changes: Any
) -> tuple[TunedModel, dict[str, Any]]:
    """The model of a run's folder on a device, and its settings with some of them changed.

    Args:
        folder: the encoder's folder.
        run: holds `weights.safetensors` and `run.json`.
        device: an automatic precision is that of this device, which need not be the one that trained.
        texts: all that the model will read.
        changes: settings other than the run's, where the model is to read other texts than those it was tuned on.

    Raises UserError when a file is missing, damaged or of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    settings = {**read_json(run / "run.json")["settings"], **changes}
    settings["precision"] = find_precision(settings["precision"], device)
    weights = run / "weights.safetensors"
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{weights} cannot be read ({error}): delete {run} and run again") from error
    return restore(folder, settings, tensors, ids_in(*texts)).to(device), settings
