"""An exported model as an ONNX file, for runtimes without Python."""

import importlib
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workflow_scripts.core.errors import UserError
from workflow_scripts.publishing.loading import Logits

FILE = "model.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INSTALL = ".venv/bin/python -m pip install -c envs/constraints.txt -r envs/export.txt"
TOLERANCE = 1e-4  # like that of `equality`; the runtime's kernels sum in a different order


class _WithInputs(nn.Module):
    """A model that takes its inputs by their order."""

    def __init__(self, logits: Logits, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.logits, self.names = model, logits, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits; see `TunedModel.forward` for their shape."""
        return self.logits(dict(zip(self.names, inputs, strict=True)))


def require_packages() -> None:
    """Raise UserError that says how to install the packages, if one is missing."""
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(f"--onnx needs the package {package} ({error}): {INSTALL}") from error


def write_onnx(model: nn.Module, logits: Logits, example: dict[str, torch.Tensor], file: Path) -> None:
    """Write a model as ONNX, with any number of texts and of tokens.

    Args:
        model: the model, in evaluation mode.
        logits: maps a tokenizer's batch to its logits.
        example: such a batch, of at least two texts.
        file: the file to write. Its inputs have the names of the example, its output is `logits`.
    """
    for library in ("torch.onnx", "onnxscript", "onnx_ir"):  # they log each of their own passes
        logging.getLogger(library).setLevel(logging.ERROR)
    names = list(example)
    # The same name: the lengths of all inputs are equal.
    sizes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of the exporter, about its own internals
        torch.onnx.export(
            _WithInputs(logits, model, names).eval(),
            tuple(example.values()),
            file,
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=(tuple(sizes for _ in names),),
            dynamo=True,
            verbose=False,
        )


def runtime_logits(file: Path) -> Logits:
    """Return what maps a tokenizer's batch to the logits that onnxruntime computes on the CPU."""
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def logits(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        (values,) = session.run(None, {name: batch[name].numpy() for name in names})
        return torch.from_numpy(values)

    return logits
