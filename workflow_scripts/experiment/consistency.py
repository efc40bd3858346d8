"""Compares output files with the configuration, by their lineage records (`core/lineage.py`).

Snakemake stores the settings of each job in `.snakemake`. But this folder can be lost, is not copied along with
results, does not cover another working folder that shares `resources`, and is overridden by `--touch` and
`--rerun-triggers mtime`. Three users compare the records: the Snakefile, which reruns the jobs of outdated outputs
(`experiment/outdated.py`); `collect`, which refuses to put outdated results into a table; and `verify`, for people.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflow_scripts.core.lineage import Lineage

CODE = "code"  # the key of the settings with the fingerprint of the step's code


@dataclass(frozen=True)
class Job:
    """One job of the grid.

    Attributes:
        step: the name of its rule and of its step's module.
        outputs: the files that its rule declares.
        settings: its settings according to the configuration.
    """

    step: str
    outputs: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """An existing output that does not match the configuration.

    Attributes:
        output: the file.
        reason: what differs, as text.
        only_code: whether only the code of its step has changed.
        only_sources: whether only the user's own files, which its step read, have changed.
    """

    output: str
    reason: str
    only_code: bool = False
    only_sources: bool = False

    def __str__(self) -> str:
        return f"{self.output}: {self.reason}"


def summary(differences: Sequence[Difference], shown: int = 5) -> str:
    """The first differences, and the number of further ones, on one line."""
    more = len(differences) - shown
    return "; ".join(map(str, differences[:shown])) + (f"; and {more} more" if more > 0 else "")


def differences(lineage: Lineage, jobs: Iterable[Job]) -> Iterator[Difference]:
    """Every existing output that its job would now write differently, with one reason each."""
    for job in jobs:
        asked = json.loads(json.dumps(job.settings))
        for output in job.outputs:
            if (size := _size(output)) is None:
                continue
            record = lineage.record(output)
            if record is None:
                yield Difference(output, "it has no record of its settings")
            elif record["bytes"] != size or (lineage.checksums and lineage.digest(output) != record["sha256"]):
                yield Difference(output, "the file has changed since it was written")
            elif changed := list(changes(record["settings"], asked)):
                yield Difference(output, "; ".join(changed))
            elif other := _other_inputs(lineage, record):
                yield Difference(output, f"its input has changed: {', '.join(other)}")
            elif edited := lineage.edited_sources(record):
                yield Difference(output, "; ".join(edited), only_sources=True)
            elif record["settings"].get(CODE) != asked.get(CODE):
                yield Difference(output, "the code of its step has changed", only_code=True)


def _other_inputs(lineage: Lineage, record: dict[str, Any]) -> list[str]:
    """The inputs of an output that exist and whose content differs from the record."""
    files = {lineage.located(name): digest for name, digest in record["inputs"].items()}
    return [file for file, digest in files.items() if lineage.digest(file) not in (digest, None)]


def _size(output: str) -> int | None:
    try:
        return os.stat(output).st_size  # noqa: PTH116
    except OSError:
        return None


def changes(made: Any, asked: Any, key: str = "") -> Iterator[str]:
    """The differences between two settings, such as `epochs was 1, now 5`, except for the code's fingerprint."""
    if isinstance(made, dict) and isinstance(asked, dict):
        for name in sorted(made.keys() | asked.keys()):
            if name != CODE:
                yield from changes(made.get(name), asked.get(name), f"{key}.{name}" if key else name)
    elif made != asked:
        yield f"{key} was {_shown(made)}, now {_shown(asked)}"


def _shown(value: Any) -> str:
    text = "not set" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
