"""Doing without what transformers imports and nothing here needs.

PyTorch's compiler, unless a configuration asks for it: transformers marks functions for it at import, and takes one
class from it for masks that it compiles; an optimizer of PyTorch tells it of every step. That alone imports 1,100
modules: 1.3 s at the start of every job.

PyTorch's distributed part, with SymPy, and SciPy: another 1,100 modules, 1.2 s and 85 MiB.
"""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"
OPERATOR = f"{COMPILER}._trace_wrapped_higher_order_op"


def _unmarked(function: Any = None, *_: Any, **__: Any) -> Any:
    """Stands for a mark, with or without arguments: the function as it is."""
    return function if callable(function) else _unmarked


class _StandIn(ModuleType):
    """A module of which every name is a mark that does nothing."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _unmarked


class _Deferred:
    """The class that masks for the compiler need, imported when it is used."""

    def __new__(cls) -> Any:
        return importlib.import_module(OPERATOR).TransformGetItemToIndex()


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """In the block an import of the compiler gives a stand-in; after it, or where it is there already, the real one.

    So it does where torchvision is installed, which transformers imports then and which needs the compiler itself.
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
    """In the block transformers takes PyTorch for built without its distributed part, and SciPy for not installed.

    It copes with both, and needs them for models spread over devices and for losses of object detection.
    """
    find, available = importlib.util.find_spec, torch.distributed.is_available

    def find_others(name: str, package: str | None = None) -> Any:
        return None if name == "scipy" else find(name, package)

    importlib.util.find_spec, torch.distributed.is_available = find_others, lambda: False
    try:
        yield
    finally:
        importlib.util.find_spec, torch.distributed.is_available = find, available
