"""The user's own files that a step reads, such as a CSV file of rows: their state, and whether they were edited since.

They are not inputs of Snakemake's rules: a missing file must end in the step's own error, and a finished grid must not
need the files any more. Their state is in the lineage records instead (`core/lineage.py`).
"""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_scripts.core.files import sha256

State = dict[str, Any]  # bytes, modified_ns, sha256


@dataclass(frozen=True)
class SourceFiles:
    """The user's files that a step reads, as they were before it read them.

    Attributes:
        files: the state of each, by its path; None for a file that the step would read if it existed.
        patterns: paths with `*`. A new file that matches one of them would be read, too.
    """

    files: Mapping[str, State | None]
    patterns: tuple[str, ...] = ()

    @classmethod
    def of(cls, files: Iterable[Path], patterns: Iterable[Path] = ()) -> "SourceFiles":
        """The state of some files. Call it before they are read: a later edit is then noticed."""
        return cls({str(file): _state(file) for file in files}, tuple(map(str, patterns)))

    def as_record(self) -> dict[str, Any]:
        """The keys `sources` and `patterns` of a lineage record."""
        return {"sources": dict(self.files), "patterns": list(self.patterns)}


def matching(pattern: Path) -> Iterator[Path]:
    """The paths that match a pattern in which only `*` has a meaning: a name such as `reviews[1].csv` is literal."""
    fixed = next(parent for parent in pattern.parents if "*" not in str(parent))
    yield from fixed.glob(glob.escape(str(pattern.relative_to(fixed))).replace("[*]", "*"))


def _state(file: Path) -> State | None:
    """None also for a file that cannot be read: the step says why."""
    try:
        status = file.stat()
        return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns, "sha256": sha256(file)}
    except OSError:
        return None


class Comparison:
    """Compares source files with their recorded states. It looks at each file once, however many outputs it has.

    Args:
        checksums: whether to compute the checksum of every file; otherwise only of those whose size or time differs.
    """

    def __init__(self, checksums: bool = False) -> None:
        self.checksums = checksums
        self._statuses: dict[str, tuple[int, int] | None] = {}
        self._states: dict[str, State | None] = {}
        self._matches: dict[str, list[str]] = {}

    def edited(self, files: Mapping[str, State | None], patterns: Iterable[str]) -> list[str]:
        """The files that are new or have another content, with what happened to each.

        A file that is gone does not count: the user may have archived it, and its outputs stay correct.
        """
        changed = [file for file, state in files.items() if state and self._differs(file, state)]
        new = [file for file, state in files.items() if state is None and self._status(file)]
        new += [file for pattern in patterns for file in self._matching(pattern) if file not in files]
        return [f"its source {file} has changed" for file in changed] + [f"its source {file} is new" for file in new]

    def touched(self, files: Mapping[str, State | None]) -> dict[str, State]:
        """The present states of files that have the recorded content, but another time."""
        return {
            file: {**state, "modified_ns": status[1]}
            for file, state in files.items()
            if state and (status := self._status(file)) and status[1] != state["modified_ns"]
        }

    def _differs(self, file: str, state: State) -> bool:
        status = self._status(file)
        if status is None or (not self.checksums and status == (state["bytes"], state["modified_ns"])):
            return False
        if file not in self._states:
            self._states[file] = _state(Path(file))
        now = self._states[file]
        return now is None or now["sha256"] != state["sha256"]

    def _status(self, file: str) -> tuple[int, int] | None:
        """Size and time; None if there is no such file, or if it is not accessible."""
        if file not in self._statuses:
            try:
                status = os.stat(file)  # noqa: PTH116  (hundreds of calls at each start)
                self._statuses[file] = status.st_size, status.st_mtime_ns
            except OSError:
                self._statuses[file] = None
        return self._statuses[file]

    def _matching(self, pattern: str) -> list[str]:
        if pattern not in self._matches:
            self._matches[pattern] = sorted(str(path) for path in matching(Path(pattern)) if path.is_file())
        return self._matches[pattern]
