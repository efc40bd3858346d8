"""Simulates a training step without weights, texts or a GPU: its operations and its memory.

The step is that of `train`: model, method, precision, quantisation and gradient checkpointing are built by the same
code. Its tensors are fake: they have a shape, a type and no content (PyTorch's `FakeTensorMode`), so a model of any
size takes seconds. `Meter` counts the floating-point operations, by PyTorch's own formulas, and the bytes of the
tensors that exist at the same time.

On a GPU some operations differ from those on a CPU. Those that matter for memory are replaced: attention is PyTorch's
memory-efficient attention, which keeps no matrix of weights, and dropout keeps one byte for each element. Nothing is
added for the context of CUDA, the workspace of its libraries and fragmentation: see `benchmarks.estimate`.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from workflow_scripts.tuning import model as tuned_model
from workflow_scripts.tuning import prompts
from workflow_scripts.tuning.acceleration import accelerate, dropout, packed
from workflow_scripts.tuning.backbone import attention
from workflow_scripts.tuning.backbone.loading import encoder_of, without_weights
from workflow_scripts.tuning.predict import lower_precision
from workflow_scripts.tuning.settings import TrainingSettings

PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm)
FEW_LAYERS = 3, 5
ADAM = 8  # bytes of AdamW's state for each tuned parameter: two float32 numbers


@dataclass(frozen=True)
class Operations:
    """Floating-point operations.

    Attributes:
        products: those in proportion to the number of tokens: products with weight matrices.
        attention: those in proportion to the tokens and to the length of the texts.
    """

    products: float = 0.0
    attention: float = 0.0


@dataclass(frozen=True)
class Step:
    """The cost of a training step.

    Attributes:
        tokens: of the batch, of all models together.
        length: of the texts and prompts, in tokens.
        forward: operations of the forward pass.
        whole: those of forward and backward pass, recomputed layers included.
        tuned: the parameters that are trained, of one model.
        stored: bytes of a run's weights, of one model.
        weights: bytes of all parameters and buffers, in the number formats of the training.
        optimizer: bytes of the optimizer's state.
        peak: peak bytes of everything during the step.
    """

    tokens: int
    length: int
    forward: Operations
    whole: Operations
    tuned: int
    stored: int
    weights: int
    optimizer: int
    peak: int

    def of_token(self, counted: Operations, length: float) -> float:
        """The operations for each token of texts of another length, prompts included."""
        return (counted.products + counted.attention * length / self.length) / self.tokens


class Meter(TorchDispatchMode):
    """Counts the operations within the block, and the storage of all tensors that they create while they exist.

    Args:
        known: tensors that existed before.

    Attributes:
        operations: so far.
        now: bytes of the tensors that exist.
        peak: the most that existed at the same time.
    """

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.operations = Operations()
        self.now = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        """Run an operation and note what it computed and created."""
        results = operation(*arguments, **(options or {}))
        packet = operation._overloadpacket
        if packet in flop_registry:
            counted = {name: getattr(self.operations, name) for name in ("products", "attention")}
            counted["products" if packet in PRODUCTS else "attention"] += flop_registry[packet](
                *arguments, **(options or {}), out_val=results
            )
            self.operations = Operations(**counted)
        for result in tree_leaves(results):
            if isinstance(result, torch.Tensor):
                self._note(result.untyped_storage())
        return results

    def _note(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self._known.remove(key)
        self.now -= size


class EfficientAttention:
    """Stands in for `PlainAttention`, with its interface: the attention that PyTorch takes on a GPU."""

    @staticmethod
    def apply(query: Any, key: Any, value: Any, mask: Any, scaling: float, probability: float) -> torch.Tensor:
        """Return (batch, heads, tokens, head size)."""
        if key.shape[1] != query.shape[1]:  # on a GPU, `attend` copies the keys that heads share
            key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for part in (key, value))
        if mask is not None:
            mask = mask.expand(*query.shape[:2], query.shape[2], key.shape[2])
        attend = torch.ops.aten._scaled_dot_product_efficient_attention
        result: torch.Tensor = attend(query, key, value, mask, True, probability, False, scale=scaling)[0]
        return result


def drop(values: torch.Tensor, probability: float) -> torch.Tensor:
    """Dropout as on a GPU: the mask has one byte for each element."""
    return torch.native_dropout(values, probability, True)[0] if probability else values


def apply(module: nn.Module, convert: Callable[[Any], Any], recurse: bool = True) -> nn.Module:
    """Stands in for `nn.Module._apply`, which does not work for fake parameters that PyTorch holds weakly."""
    for one in module.modules() if recurse else (module,):
        for parameter in one.parameters(recurse=False):
            parameter.data = convert(parameter.data)
        one._buffers.update({name: convert(buffer) for name, buffer in one.named_buffers(recurse=False)})
    return module


class FusedAttention:
    """Attention without dropout that keeps no matrix of weights, to measure on a CPU what a GPU keeps."""

    @staticmethod
    def apply(query: Any, key: Any, value: Any, mask: Any, scaling: float, probability: float) -> Any:
        """Return what `attention.PlainAttention` returns."""
        key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for part in (key, value))
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)


@contextlib.contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Within the block, models are built and computed with fake tensors by the operations of a GPU."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(attention, "PlainAttention", EfficientAttention))
        for module in (attention, prompts, dropout):
            stack.enter_context(mock.patch.object(module, "drop", drop))
        stack.enter_context(mock.patch.object(packed, "available", lambda: False))
        stack.enter_context(mock.patch.object(accelerate, "replace_normalisations", lambda model: None))
        stack.enter_context(mock.patch.object(accelerate, "replace_activations", lambda model: None))
        stack.enter_context(mock.patch.object(nn.Module, "_apply", apply))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield


def simulate(
    configuration: Callable[[], Any],
    settings: TrainingSettings,
    texts: int,
    length: int,
    models: int = 1,
    words: int | None = None,
) -> Step:
    """Take a training step with fake tensors.

    All layers cost the same, so a deep model is simulated with few layers, twice, and the difference is added for the
    others.

    Args:
        configuration: returns a new configuration of the encoder, of transformers.
        settings: the merged settings of the run. `compile` is ignored, and `precision: auto` is bfloat16.
        texts: features of the batch.
        length: tokens of each feature.
        models: candidates of a search that share the pass.
        words: the number of different tokens in the texts of a job, which keeps no other word embeddings; None for the
            whole vocabulary.
    """
    whole = configuration()
    deep, prompted = getattr(whole, "num_hidden_layers", 0), settings.prompt_depth
    bare = deep - prompted if prompted else 0  # layers without prompts
    few, more = (bare + layers for layers in FEW_LAYERS)
    if more >= deep or bare < 0 or whole.sub_configs or settings.module or settings.peft:
        return simulate_whole(configuration, settings, texts, length, models, words)

    def of_depth(layers: int) -> Step:
        def shallow() -> Any:
            config = configuration()
            config.num_hidden_layers = layers
            if getattr(config, "layer_types", None):
                config.layer_types = config.layer_types[:layers]
            return config

        chosen = settings.changed(prompt_depth=layers - bare) if prompted else settings
        return simulate_whole(shallow, chosen, texts, length, models, words)

    return _extrapolated(of_depth(few), of_depth(more), (deep - more) / (more - few))


def _extrapolated(few: Any, more: Any, times: float) -> Any:
    """Return the second of two numbers, or of two objects of numbers, with `times` their difference added."""
    if is_dataclass(few):
        names = [field.name for field in fields(few)]
        parts = {name: _extrapolated(getattr(few, name), getattr(more, name), times) for name in names}
        kind: Any = type(few)
        return kind(**parts)
    return round(more + times * (more - few))


def simulate_whole(
    configuration: Callable[[], Any],
    settings: TrainingSettings,
    texts: int,
    length: int,
    models: int = 1,
    words: int | None = None,
) -> Step:
    """Take a training step with fake tensors, in all layers; see `simulate`."""
    precision = "bfloat16" if settings.precision == "auto" else settings.precision
    settings = settings.changed(precision=precision, compile=False)

    def load(folder: Path, implementation: str, dropout: Any, check: Any, bidirectional: bool) -> Any:
        config = configuration()
        if words is not None and keeps_rows(configuration()) and not settings.module:
            config.vocab_size = min(config.vocab_size, words)
            config.pad_token_id = min(config.pad_token_id or 0, config.vocab_size - 1)
        model = encoder_of(without_weights(config, implementation, dropout, bidirectional, with_pooler=True)[0])
        check(model)
        return model

    with as_on_a_gpu(), mock.patch.object(tuned_model, "load_encoder", load):
        built = tuned_model.build_together(Path(), settings, None, models)
        for one in built:
            one.train()
        tensors = [tensor for one in built for tensor in (*one.parameters(), *one.buffers())]
        sizes = {one.untyped_storage()._cdata: one.untyped_storage().nbytes() for one in tensors}
        tuned = sum(parameter.numel() for parameter in built[0].tuned_parameters().values())
        stored = sum(tensor.nbytes for tensor in built[0].tuned_tensors().values())
        batch = {name: torch.ones(texts, length, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
        with Meter(tensors) as meter:
            with lower_precision(torch.device("cpu"), precision):
                logits = tuned_model.forward_together(built, batch)
                loss = torch.stack([values.float().square().mean() for values in logits]).sum()  # takes next to nothing
            del logits
            forward = meter.operations
            loss.backward()
    weights, optimizer = sum(sizes.values()), ADAM * tuned * models
    return Step(
        tokens=models * texts * length,
        length=length + settings.prompt_length,
        forward=forward,
        whole=meter.operations,
        tuned=tuned,
        stored=stored,
        weights=weights,
        optimizer=optimizer,
        peak=weights + optimizer + meter.peak,
    )


def keeps_rows(config: Any) -> bool:
    """Whether a job keeps only the word embeddings in use: of subclasses, such as Gemma's, it keeps all."""
    with torch.device("meta"):
        model = without_weights(config, attention.NAME, None, False, with_pooler=True)[0]
    return type(model.get_input_embeddings()) is nn.Embedding


def parameters(config: Any) -> int:
    """The parameters of an encoder with its whole vocabulary, as `num_parameters` counts them."""
    with torch.device("meta"):
        model = encoder_of(without_weights(config, attention.NAME, None, False, with_pooler=True)[0])
    return sum(parameter.numel() for parameter in model.parameters())
