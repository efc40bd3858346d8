"""Importing transformers without the packages that it pulls in and this project does not use.

`without_compiler` avoids PyTorch's compiler, unless a configuration asks for it: transformers decorates functions for
it at import and takes one class from it for compiled masks, and PyTorch's optimizers notify it of every step. That
costs 1,100 modules and 1.3 s at the start of every job.

`without_extras` avoids PyTorch's distributed package, with SymPy, and SciPy: another 1,100 modules, 1.2 s and 85 MiB.
"""

import contextlib
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"
OPERATOR = f"{COMPILER}._trace_wrapped_higher_order_op"

# PEFT imports bitsandbytes if it is installed. On a CPU, that warns that an optional package for faster inference is
# missing, which is not used here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _unmarked(function: Any = None, *_: Any, **__: Any) -> Any:
    """A decorator, with or without arguments, that returns the function unchanged."""
    return function if callable(function) else _unmarked


class _StandIn(ModuleType):
    """A module in which every name is a decorator that does nothing."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _unmarked


class _Deferred:
    """The compiler's class for masks, imported only when it is used."""

    def __new__(cls) -> Any:
        return importlib.import_module(OPERATOR).TransformGetItemToIndex()


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """Replace the compiler by a stand-in for imports within the block; imports after it get the real one.

    Does nothing if the compiler is already imported, or if torchvision is installed: transformers imports that too,
    and it needs the real compiler.
    """
    if COMPILER in sys.modules or importlib.util.find_spec("torchvision"):
        yield
        return
    compiler, operator = _StandIn(COMPILER), _StandIn(OPERATOR)
    operator.TransformGetItemToIndex = _Deferred  # type: ignore[attr-defined]
    sys.modules |= {COMPILER: compiler, OPERATOR: operator}
    try:
        yield
    finally:
        for name in (COMPILER, OPERATOR):
            del sys.modules[name]


@contextlib.contextmanager
def without_extras() -> Iterator[None]:
    """Within the block, PyTorch reports no distributed package and SciPy seems not to be installed.

    Transformers supports both cases. It needs the packages for models spread over several devices and for
    object-detection losses.
    """
    find, available = importlib.util.find_spec, torch.distributed.is_available

    def find_others(name: str, package: str | None = None) -> Any:
        return None if name == "scipy" else find(name, package)

    importlib.util.find_spec, torch.distributed.is_available = find_others, lambda: False
    try:
        yield
    finally:
        importlib.util.find_spec, torch.distributed.is_available = find, available
