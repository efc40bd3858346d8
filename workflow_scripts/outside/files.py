"""Files with predictions: one for a task, language and seed."""

from pathlib import Path

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.source_files import SourceFiles, matching


def locate(pattern: str) -> Path:
    """The file that a path names, in which `*` is any text. Raises UserError unless exactly one file matches."""
    path = Path(pattern)
    if "*" not in pattern:
        return path
    found = sorted(file for file in matching(path) if file.is_file())
    if len(found) == 1:
        return found[0]
    if not found:
        folder = next(parent for parent in path.parents if "*" not in str(parent))
        names = sorted(file.name for file in folder.iterdir())[:5] if folder.is_dir() else []
        there = f"{folder} has {', '.join(names) or 'no files'}" if folder.is_dir() else f"there is no folder {folder}"
        raise UserError(f"no file matches {pattern}: {there}")
    raise UserError(
        f"{len(found)} files match {pattern}: {found[0].name} and {found[1].name}; name one by `file`, or delete the"
        " others"
    )


def sources(patterns: list[str]) -> SourceFiles:
    """The current state of the files, with which later edits are compared."""
    return SourceFiles.of(map(locate, patterns), [Path(pattern) for pattern in patterns if "*" in pattern])
