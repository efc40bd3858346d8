"""A tuned model that no standard class can hold: its tensors, and a short loader written for it.

`load.py.jinja` is the loader's template. A loader needs only torch, transformers and safetensors, and PEFT if PEFT made
the adapters. It has the encoder as `AutoModel` loads it, and the method's additions in plain PyTorch.
"""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from safetensors.torch import save_file
from torch import nn

from workflow_scripts.publishing.stock import StockModel, load_stock, stock_configuration
from workflow_scripts.tuning.backbone.layers import takes, uses_interface
from workflow_scripts.tuning.backbone.positions import first_position
from workflow_scripts.tuning.finished import FinishedRun
from workflow_scripts.tuning.methods.adapter import Bottleneck, sublayers
from workflow_scripts.tuning.methods.input_prompt_tuning import InputPrompts
from workflow_scripts.tuning.methods.llama_adapter import GatedPrompts, projections
from workflow_scripts.tuning.methods.prefix_plus import PrefixMatrices
from workflow_scripts.tuning.model import TunedModel
from workflow_scripts.tuning.prompts import AttentionInsert, Prompts

LOADER: Final = "load.py"
TENSORS = "tuned.safetensors"
ATTENTIONS = {Prompts: "prompts", GatedPrompts: "gated", PrefixMatrices: "matrices"}


def pretrained(run: FinishedRun) -> StockModel:
    """Return the encoder of a run as `AutoModel` loads it."""
    model = load_stock("AutoModel", run, stock_configuration(run))
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    path = next(name for name, module in model.named_modules() if module is encoder)
    return StockModel("AutoModel", model, path, ())


def write_loader(
    run: FinishedRun, tuned: TunedModel, folder: Path, base: dict[str, Any] | None, whole: bool, adapted: bool = False
) -> bool:
    """Write `load.py` and the tensors that it reads besides the encoder's; return whether it can hold the model.

    Args:
        run: the run.
        tuned: its model.
        folder: of the export.
        base: where the Hub has the encoder; None if it is in the export.
        whole: whether the export's own weights are the tuned encoder's, instead of those in `base/`.
        adapted: whether PEFT inserts adapters into the encoder.
    """
    vector, prompts = tuned.sentence_vector, tuned.prompts
    values: dict[str, Any] = {
        "method": "peft" if adapted else "plain",
        "attention": ATTENTIONS.get(type(prompts), ""),
        "shape": "(batch, outputs)" if tuned.level == "sequence" else "(batch, tokens, outputs)",
        "vector": vector,
        "position_ids": "",
        "tensors": {},
        "encoder_decoder": run_is_encoder_decoder(run),
    }
    linears = [module for module in tuned.head.modules() if isinstance(module, nn.Linear)]
    values["head"] = ", torch.nn.Tanh(), ".join(_layer(layer) for layer in linears)
    tensors = {
        f"head.{2 * place}.{name}": parameter
        for place, layer in enumerate(linears)
        for name, parameter in layer.named_parameters()
    }
    options: dict[str, Any] = {"dtype": "float32"}
    if isinstance(prompts, AttentionInsert):
        modules = [*prompts.layers]
        if not all(map(uses_interface, _library_modules(run, tuned, modules))):
            return False  # DeBERTa's attention is ours, not the library's
        values |= _of_attention(tuned, modules)
        options["attn_implementation"] = "tuned"
    elif isinstance(prompts, InputPrompts):
        values |= {"method": "input_prompts", "prompts": tuned.prompt_length}
    elif hasattr(tuned.encoder, "bottlenecks"):
        values |= {"method": "adapter", "adapter": _of_adapters(run, tuned)}
        tensors |= {
            f"bottlenecks.{number}.{place}.{name}": parameter
            for number, network in enumerate(tuned.encoder.bottlenecks)
            for place, layer in ((0, network.down), (2, network.up))
            for name, parameter in layer.named_parameters()
        }
    if prompts is not None:
        own = dict(prompts.named_parameters())
        values["tensors"] = {name: ", ".join(map(str, parameter.shape)) for name, parameter in own.items()}
        tensors |= own
    if base is not None:
        options["revision"] = base["commit"]
    values["base"] = repr(base["repository"]) if base else "HERE" if whole else 'HERE / "base"'
    values["options"] = ", ".join(f"{name}={value!r}".replace("'", '"') for name, value in options.items())
    save_file({name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}, folder / TENSORS)
    (folder / LOADER).write_text(_template().render(values), encoding="utf-8")
    return True


def run_is_encoder_decoder(run: FinishedRun) -> bool:
    """Whether a run's encoder is a part of an encoder-decoder."""
    return bool(stock_configuration(run).is_encoder_decoder)


def _library_modules(run: FinishedRun, tuned: TunedModel, modules: Sequence[nn.Module]) -> list[nn.Module]:
    """The modules of the library's encoder with the names of some of ours; built without weights."""
    from transformers import AutoModel

    with torch.device("meta"):
        model = AutoModel.from_config(stock_configuration(run))
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    return [encoder.get_submodule(name) for name in _names(tuned.encoder, modules)]


def _of_attention(tuned: TunedModel, modules: Sequence[Any]) -> dict[str, Any]:
    """The template's values for a method in the layers' attention."""
    values: dict[str, Any] = {"layers": expression([(name,) for name in _names(tuned.encoder, modules)])}
    if isinstance(tuned.prompts, GatedPrompts):
        values |= {"projections": projections(modules[0]), "key_norm": getattr(modules[0], "k_norm", None) is not None}
    if isinstance(tuned.prompts, Prompts) and takes(tuned.encoder, "position_ids"):
        length = tuned.prompt_length
        if first := first_position(tuned.encoder):
            values["position_ids"] = f"(attention_mask.cumsum(1) + {length}) * attention_mask + {first - 1}"
        else:
            values["position_ids"] = f"(attention_mask.cumsum(1) - 1).clamp(min=0) + {length}"
    return values


def _of_adapters(run: FinishedRun, tuned: TunedModel) -> dict[str, Any]:
    """The template's values for bottleneck adapters."""
    network: Bottleneck = tuned.encoder.bottlenecks[0]
    placement = run.settings.adapter_placement
    parallel = placement == "parallel"
    used = {"houlsby": (0, 2), "pfeiffer": (2,), "parallel": (1, 2)}[str(placement)]
    names = [_names(tuned.encoder, [layer[place] for place in used]) for layer in sublayers(tuned.encoder)]
    return {
        "parallel": parallel,
        "scale": network.scale,
        "layers": f"{_layer(network.down)}, torch.nn.{type(network.activation).__name__}(), {_layer(network.up)}",
        "name": "(first, last)" if parallel else "last",
        "names": expression([tuple(one) for one in names], flat=not parallel),
    }


def _layer(layer: nn.Linear) -> str:
    """A linear layer in Python, without its weights."""
    return (
        f"torch.nn.Linear({layer.in_features}, {layer.out_features}{'' if layer.bias is not None else ', bias=False'})"
    )


def _names(encoder: Any, modules: Sequence[nn.Module]) -> list[str]:
    """The names of some modules in an encoder."""
    by_module = {id(module): name for name, module in encoder.named_modules()}
    return [by_module[id(module)] for module in modules]


def expression(names: Sequence[tuple[str, ...]], flat: bool = True) -> str:
    """Return the names of each layer's modules in Python, by the number of the layer where they differ in it alone.

    flat: whether the result is a list of names, instead of a list with a tuple of names for each layer.
    """
    start = re.search(r"(?<=\.)\d+(?=\.)", names[0][0])
    first = int(start[0]) if start else 0
    patterns = [re.sub(r"(?<=\.)\d+(?=\.)", "{number}", name, count=1) for name in names[0]]
    made = [
        tuple(pattern.replace("{number}", str(number)) for pattern in patterns)
        for number in range(first, first + len(names))
    ]
    literal = list(itertools.chain(*names)) if flat else list(names)
    if made != [tuple(one) for one in names] or not start:
        return repr(literal)
    numbers = f"range({first}, {first + len(names)})" if first else f"range({len(names)})"
    written = [f'f"{pattern}"' for pattern in patterns]
    if not flat:
        return f"[({', '.join(written)}) for number in {numbers}]"
    if len(written) == 1:
        return f"[{written[0]} for number in {numbers}]"
    indent = " " * 8
    return (
        f"[\n{indent}    name\n{indent}    for number in {numbers}\n"
        f"{indent}    for name in ({', '.join(written)})\n{indent}]"
    )


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,
    )
    return environment.get_template("load.py.jinja")
