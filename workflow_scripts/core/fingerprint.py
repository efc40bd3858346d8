"""A short hash of what a step's code does: the step reruns after an edit that changes the hash, and only then.

The hash covers the step's module and every module of this project that it imports, directly or indirectly. Comments,
layout, docstrings and modification times do not count: a checkout of another branch and back reruns nothing. Snakemake
itself cannot do this (a changed helper module never triggers a rerun, a touched script does).
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "workflow_scripts"
ROOT = Path(__file__).resolve().parents[2]
SUFFIX = ".py"  # of a module that is named by its file
METRICS = "evaluation.metrics"  # read by training and by scoring
# The files of a package that its modules read as data.
DATA_SUFFIXES = {".yaml", ".tsv", ".csv"}


@cache
def fingerprint(*modules: str, without: str | None = None) -> str:
    """Twelve hexadecimal digits for the code of some modules and of all that they import.

    Args:
        modules: names relative to the package, such as `train` or `tasks.tagging`, or the path of a user's own Python
            file, such as `my/method.py`. A module that a step loads by name at run time must be listed here.
        without: a module whose edits do not count, and neither do those of modules that it alone imports.

    Raises FileNotFoundError for a module that does not exist.
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
    """`start` and the modules of this project that it imports, except `left_out` and what that alone imports."""
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
    """The source file of a module of this project, or the named file; None for any other name."""
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
    """A hash of a module's syntax tree without docstrings; for a package also of its data files."""
    digest = hashlib.sha256(_plain(_tree(module)).encode())
    file = _file(module)
    if file is not None and file.name == "__init__.py":
        for data in _data_files(file.parent):
            digest.update(data.relative_to(file.parent).as_posix().encode() + data.read_bytes())
    return digest.hexdigest()


def _data_files(folder: Path) -> list[Path]:
    """The data files in a package's folder and its subfolders, except in subpackages."""
    found: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not (entry / "__init__.py").exists():
            found += _data_files(entry)
        elif entry.suffix in DATA_SUFFIXES:
            found.append(entry)
    return found


def _plain(node: object) -> str:
    """The syntax tree without docstrings, as text that is the same in every version of Python.

    `ast.dump` shows other empty fields in other versions; this omits all of them.
    """
    if isinstance(node, ast.AST):
        fields = []
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                value = [item for item in value if not _is_docstring(item)]
            if value is not None and value != []:
                fields.append(f"{name}={_plain(value)}")
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_plain, node))}]"
    return repr(node)


def _is_docstring(statement: object) -> bool:
    """Whether a statement is a string alone: a docstring, or the description of the attribute above it."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
