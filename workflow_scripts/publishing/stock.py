"""A tuned model as the class of transformers for its kind of task, where the class's head can hold ours."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from workflow_scripts.kinds import part
from workflow_scripts.publishing.tuned import head_layers
from workflow_scripts.tuning.finished import FinishedRun
from workflow_scripts.tuning.model import TunedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StockModel:
    """A model of transformers with our head in it.

    Attributes:
        auto: the name of its Auto class.
        model: the model, in float32. Its encoder is the pretrained one.
        path: of the encoder in the model, without a dot at the end; empty for the model itself.
        head: the names of the modules outside the encoder that hold our head.
    """

    auto: str
    model: Any
    path: str
    head: tuple[str, ...]

    @property
    def encoder(self) -> Any:
        """The encoder in the model."""
        return self.model.get_submodule(self.path)

    def named(self, name: str) -> str:
        """The name in the model of a part of the encoder."""
        return f"{self.path}.{name}" if self.path else name


def auto_class(kind: str) -> str:
    """Return the name of the Auto class for a kind of task, from what its head reads and its loss compares."""
    model = part(kind, "model")
    if model.LEVEL == "sequence":
        return "AutoModelForSequenceClassification"
    spans = {"start", "end"} <= set(model.TARGETS)
    return "AutoModelForQuestionAnswering" if spans else "AutoModelForTokenClassification"


def output_names(kind: str, labels: Sequence[str]) -> list[str]:
    """Return the names of the head's outputs; none for numbers and positions.

    A kind whose outputs are not its labels names them by `tags_of` in its rows.
    """
    names = getattr(part(kind, "rows"), "tags_of", list)(list(labels))
    return list(names) if len(names) == part(kind, "model").outputs(labels) else []


def score_range(kind: str, labels: Sequence[str]) -> tuple[float, float] | None:
    """Return the lowest and highest score of a kind whose head gives a score from 0 to 1; else None."""
    function = getattr(part(kind, "rows"), "score_range", None)
    return function(labels) if function else None


def stock_configuration(run: FinishedRun) -> Any:
    """Return the encoder's configuration with the names of the outputs."""
    from transformers import AutoConfig

    settings = run.settings
    names = output_names(settings.kind, settings.labels)
    changes: dict[str, Any] = {"num_labels": part(settings.kind, "model").outputs(settings.labels)}
    if names:
        changes |= {"id2label": dict(enumerate(names)), "label2id": {name: place for place, name in enumerate(names)}}
    if score_range(settings.kind, settings.labels):
        changes["problem_type"] = "regression"
    config = AutoConfig.from_pretrained(run.encoder, **changes)
    if settings.attention == "bidirectional":
        config.is_causal = False  # an attribute that most configurations lack initially
    return config


def load_stock(auto: str, run: FinishedRun, config: Any) -> Any:
    """Load the pretrained encoder as an Auto class, in float32; what the checkpoint lacks is random."""
    import transformers

    with silent():
        return getattr(transformers, auto).from_pretrained(run.encoder, config=config, dtype=torch.float32).eval()


def stock_model(run: FinishedRun, tuned: TunedModel) -> StockModel | None:
    """Return the stock class's model with the pretrained encoder and our head, or None if the head does not fit.

    It fits if the class has as many linear layers of the same shapes after the encoder, and nothing else with
    parameters. Whether the class computes the same with them (the vector that it reads, its activation) is left to the
    comparison of logits that follows each export.
    """
    import transformers

    auto, config = auto_class(run.settings.kind), stock_configuration(run)
    if type(config) not in getattr(transformers, auto)._model_mapping:
        return None
    if hasattr(config, "pooler_hidden_act"):
        config.pooler_hidden_act = "tanh"  # of DeBERTa's head
    model = load_stock(auto, run, config)
    encoder = encoder_in(model)
    if encoder is None:
        return None
    path = next(name for name, module in model.named_modules() if module is encoder)
    inside = {id(parameter) for parameter in encoder.parameters()}
    pooler = getattr(encoder, "pooler", None)
    inside -= {id(parameter) for parameter in pooler.parameters()} if pooler is not None else set()
    theirs = [module for module in model.modules() if isinstance(module, nn.Linear) and id(module.weight) not in inside]
    ours = head_layers(tuned)
    held = {id(parameter) for module in theirs for parameter in module.parameters()}
    others = [parameter for parameter in model.parameters() if id(parameter) not in inside | held]
    if others or [shapes(module) for module in theirs] != [shapes(module) for module in ours]:
        return None
    with torch.no_grad():
        for their, our in zip(theirs, ours, strict=True):
            for name, parameter in their.named_parameters():
                parameter.copy_(our.get_parameter(name))
    outside = {id(module) for module in encoder.modules()}
    head = tuple(
        dict.fromkeys(
            name.partition(".")[0]
            for name, module in model.named_modules()
            if any(module is one for one in theirs) and id(module) not in outside
        )
    )
    return StockModel(auto, model, path, head)


def encoder_in(model: Any) -> Any:
    """Return the encoder in a model of the library; None if the class reads a decoder's states instead."""
    base = model.base_model
    if not model.config.is_encoder_decoder:
        return base
    return None if getattr(base, "decoder", None) is not None else base.get_encoder()


def shapes(module: nn.Linear) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer's parameters by name."""
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def fill_encoder(encoder: Any, tuned: TunedModel, pooler: bool) -> bool:
    """Load a tuned encoder's parameters into the library's; return whether they fit.

    pooler: whether to also load those of the pooler. Either encoder may lack one.
    """
    ours, theirs = tuned.encoder.state_dict(), encoder.state_dict()
    if {name for name in ours.keys() ^ theirs.keys() if not name.startswith("pooler.")}:
        return False
    loaded = {name: tensor for name, tensor in ours.items() if pooler or not name.startswith("pooler.")}
    encoder.load_state_dict(loaded, strict=False)
    return True


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Within the block, transformers does not warn that a head is newly initialised."""
    from transformers.utils import logging as library

    before, bar = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(before)
        if bar:
            library.enable_progress_bar()
