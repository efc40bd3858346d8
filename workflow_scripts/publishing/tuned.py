"""A run's model as plain PyTorch modules in float32, without this project's accelerations."""

from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import parametrize

from workflow_scripts.kinds import model_part, part
from workflow_scripts.tuning.backbone import attention
from workflow_scripts.tuning.backbone.loading import load_encoder
from workflow_scripts.tuning.backbone.readout import text_vector_of
from workflow_scripts.tuning.finished import FinishedRun
from workflow_scripts.tuning.model import TunedModel, method_module, reparameterised


def tuned_model(run: FinishedRun) -> TunedModel:
    """Rebuild a run's model in float32, in evaluation mode. Its parameters have the names of the library's encoder.

    `build` of `tuning.model` makes the same model and replaces modules by faster ones; so does the export's check,
    which compares the two.
    """
    settings = run.settings
    kind, method = part(settings.kind, model_part(settings.answers)), method_module(settings)
    encoder = load_encoder(run.encoder, attention.NAME, settings.dropout, None, settings.attention == "bidirectional")
    encoder.requires_grad_(False).float()
    head = method.head(kind.LEVEL, encoder.config.hidden_size, kind.outputs(settings.labels), settings)
    vector = text_vector_of(encoder, method.sentence_vector(settings)) if kind.LEVEL == "sequence" else None
    if vector == "pooler" and getattr(encoder, "pooler", None) is None:
        vector = "first_token"
    model = TunedModel(encoder, head, kind.LEVEL, vector)
    method.prepare(model, settings, None)
    for _, module, name in reparameterised(model):
        parametrize.remove_parametrizations(module, name)
    # Assigned, not copied: the checkpoint's own tensors are mapped from its files.
    state = whole_tables(load_file(run.folder / "weights.safetensors"), model.state_dict())
    unexpected = model.load_state_dict(state, strict=False, assign=True).unexpected_keys
    assert not unexpected, unexpected
    return model.float().eval().requires_grad_(False)


def whole_tables(tensors: dict[str, torch.Tensor], pretrained: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a run's tensors with whole embedding tables instead of the rows that were trained."""
    result = dict(tensors)
    for name in [name for name in tensors if name.endswith(".touched")]:
        path = name.removesuffix(".touched")
        table = pretrained[f"{path}.weight"].float().clone()
        table[result.pop(name)] = result.pop(f"{path}.rows").float()
        result[f"{path}.weight"] = table
    return result


def head_layers(model: TunedModel) -> list[nn.Linear]:
    """Return the linear layers between a vector of the encoder and the logits; a tanh follows each but the last.

    The first may be that of the encoder's pooler.
    """
    layers = [module for module in model.head.modules() if isinstance(module, nn.Linear)]
    if model.sentence_vector == "pooler":
        layers = [*pooler_layers(model.encoder), *layers]
    return layers


def pooler_layers(encoder: Any) -> list[nn.Linear]:
    """Return the linear layers of an encoder's pooler."""
    pooler = getattr(encoder, "pooler", None)
    return [] if pooler is None else [module for module in pooler.modules() if isinstance(module, nn.Linear)]
