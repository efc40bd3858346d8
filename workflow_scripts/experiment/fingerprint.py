"""What the code of a step means, as a short hash: an edit that changes it reruns the step, and no other does.

The hash covers a step's module and everything of this project that it imports, directly or not. Comments, layout and
docstrings do not count, nor do modification times: a checkout of another branch and back reruns nothing. Snakemake
itself sees neither (a changed helper module never triggers a rerun, a touched script does).
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "workflow_scripts"
ROOT = Path(__file__).resolve().parents[2]
SUFFIX = ".py"  # of a module that is named by its file
METRICS = "evaluation.metrics"  # read by training and by scoring
# Data files that a step reads beside its modules.
DATA_SUFFIXES = {".yaml", ".tsv", ".csv"}


@cache
def fingerprint(*modules: str, without: str | None = None) -> str:
    """Twelve hex digits for the meaning of `workflow_scripts/MODULE.py` of each module, and of what they import.

    Names are relative to the package: `train`, `tasks.tagging`. A module that a step loads by name, such as a tuning
    method, is named beside the step; one of the user's own by its file, `my/method.py`, whose imports of this project
    count as well. `without`: a module whose edits do not count. Raises FileNotFoundError for a module that does not
    exist.
    """
    digest = hashlib.sha256()
    left_out = f"{PACKAGE}.{without}"
    reached: set[str] = set()
    for module in modules:
        name = module if module.endswith(SUFFIX) else f"{PACKAGE}.{module}"
        if not _file(name):
            raise FileNotFoundError(name)
        reached |= _reached(name, left_out)
    for module in sorted(reached):
        digest.update(f"{module}={_meaning(module)}\n".encode())
    return digest.hexdigest()[:12]


def _reached(start: str, left_out: str = "") -> set[str]:
    """The modules of this project that `start` imports, itself included; not `left_out`, nor what it alone imports."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module not in reached and module != left_out and _file(module):
            reached.add(module)
            waiting += _imports(module)
            # Importing a.b.c runs a and a.b first.
            waiting.append(module.rpartition(".")[0])
    return reached


def _file(module: str) -> Path | None:
    """The source of a module of this project or of a named file, or None for any other name."""
    if module.endswith(SUFFIX):
        return Path(module) if Path(module).is_file() else None
    if module != PACKAGE and not module.startswith(PACKAGE + "."):
        return None
    base = ROOT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _tree(module: str) -> ast.Module:
    file = _file(module)
    assert file is not None
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


@cache
def _imports(module: str) -> tuple[str, ...]:
    """The names that a module imports; `from a import b` counts as both a and a.b, since b may be a module."""
    names: list[str] = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


@cache
def _meaning(module: str) -> str:
    """A hash of a module's syntax tree without docstrings, and of a package's data files."""
    digest = hashlib.sha256(_plain(_tree(module)).encode())
    file = _file(module)
    if file is not None and file.name == "__init__.py":
        for data in _data_files(file.parent):
            digest.update(data.relative_to(file.parent).as_posix().encode() + data.read_bytes())
    return digest.hexdigest()


def _data_files(folder: Path) -> list[Path]:
    """The data files of a package: in its folder and below, but not in the packages below."""
    found: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not (entry / "__init__.py").exists():
            found += _data_files(entry)
        elif entry.suffix in DATA_SUFFIXES:
            found.append(entry)
    return found


def _plain(node: object) -> str:
    """The syntax tree as text, the same on every version of Python.

    `ast.dump` differs between versions in the empty fields that it shows; this leaves all of them out.
    """
    if isinstance(node, ast.AST):
        fields = []
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(value, list) and _is_docstring(node, value):
                value = value[1:]
            if value is not None and value != []:
                fields.append(f"{name}={_plain(value)}")
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_plain, node))}]"
    return repr(node)


def _is_docstring(node: ast.AST, body: list[ast.stmt]) -> bool:
    """Whether a body begins with a docstring."""
    return (
        isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and bool(body)
        and isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and isinstance(body[0].value.value, str)
    )
