"""PyTorch's compiler, for `training.compile`."""

from typing import Any

import torch

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.faults import explain
from workflow_scripts.tuning.backbone.layers import layers


def check_compiler(device: torch.device) -> None:
    """Compile one operation, to find out early whether PyTorch's compiler works on this machine.

    It needs a C++ compiler on a CPU; Triton, a C compiler and Python's headers on a GPU. Its one-off preparation for a
    processor takes half a minute; the result stays in its cache and serves the encoder's layers.

    Raises UserError if compilation fails.
    """
    try:
        torch.compile(torch.sin, dynamic=True)(torch.ones(8, device=device))
    except Exception as error:
        if explain(error):  # Not the compiler's fault: a full disk, out of memory.
            raise
        needed = "Triton, a C compiler and Python's headers" if device.type == "cuda" else "a C++ compiler"
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"training.compile: PyTorch's compiler needs {needed} and failed ({reason}): install what is missing"
            " (Debian: apt-get install g++ python3-dev), set the environment variable CXX to another C++ compiler, or"
            " set compile: false"
        ) from error


def compile_layers(encoder: Any) -> None:
    """Compile each layer of the encoder for texts of any length.

    All layers share one compiled program, which is ready in a fifth of the time that compiling a twelve-layer encoder
    as a whole takes. An architecture without a list of layers is compiled as a whole.
    """
    # Each combination (first or later layer, training or prediction, full or last batch) is compiled separately.
    torch._dynamo.config.recompile_limit = 64
    for module in layers(encoder) or [encoder]:
        module.compile(dynamic=True)
