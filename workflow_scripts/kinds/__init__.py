"""The kinds of task: what a row is, how it becomes model inputs, and how predictions are scored and shown.

A kind is one folder. `protocol.py` says what its modules (its *parts*) define. A user's own kind is one Python file
with the same names at its top level. No other module compares the name of a kind with anything: it loads a part and
calls it.
"""

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.own_module import import_file
from workflow_scripts.kinds.protocol import CEILING, PARTS, PREDICTIONS

KINDS = tuple(sorted(file.parent.name for file in Path(__file__).parent.glob("*/facts.py")))
SUFFIX = ".py"  # of a user's own kind, which is named by its file


def module_of(kind: str, part: str) -> str:
    """The module of a part, as `fingerprint` names modules: relative to the package, or the user's file."""
    return kind if kind.endswith(SUFFIX) else f"kinds.{kind}.{part}"


def part(kind: str, name: str) -> ModuleType:
    """A part of a kind: `facts`, `rows`, `model`, `metrics`, `examples`, `predictions`, or `ceiling` with `BOUNDED`.

    Raises UserError if a user's file is missing, cannot be imported, or lacks a name of the part.
    """
    if not kind.endswith(SUFFIX):
        return importlib.import_module(f"{__name__}.{kind}.{name}")
    module = _user_module(kind)
    for defined in (PARTS | CEILING | PREDICTIONS)[name]:
        if not hasattr(module, defined):
            raise UserError(f"{kind} does not define {defined}, which a kind of task needs; see kinds/protocol.py")
    return module


def model_part(answers: str) -> str:
    """The part of a kind that makes model inputs and predictions: `answers` is "head" or "words"."""
    return {"head": "model", "words": "words"}[answers]


def template_fields(kind: str) -> tuple[str, ...]:
    """The fields of a template for answers in words; none for a kind without them, such as a user's own."""
    return () if kind.endswith(SUFFIX) else getattr(part(kind, "facts"), "TEMPLATE", ())


@cache
def _user_module(file: str) -> ModuleType:
    return import_file(file, "kind", ", which a task names as its kind")
