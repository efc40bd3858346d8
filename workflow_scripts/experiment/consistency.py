"""Whether what was made is what the configuration asks for now.

Snakemake keeps the settings of each job in `.snakemake`. But that folder gets lost, does not travel with copied
results, knows nothing of another working folder that shares `resources`, and is overruled by `--touch` and
`--rerun-triggers mtime`. So whatever reads outputs of other steps compares their lineage (`experiment/lineage.py`) with
the configuration: the Snakefile, which has Snakemake make again what differs (`experiment/made_again.py`); `collect`,
which makes no table of results that differ; and `verify`, for people.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflow_scripts.experiment.lineage import Lineage

CODE = "code"  # the key of settings that holds the fingerprint of the step's code


@dataclass(frozen=True)
class Job:
    """What one job of the grid makes, and from which settings.

    Attributes:
        step: the rule's name, which is the step's module.
        outputs: the files that the step declares.
        settings: what the configuration asks for now.
    """

    step: str
    outputs: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """An output that is there and is not what the configuration asks for.

    Attributes:
        output: the file.
        reason: what differs, for a reader.
        only_code: whether nothing but the code of its step has changed since.
    """

    output: str
    reason: str
    only_code: bool = False

    def __str__(self) -> str:
        return f"{self.output}: {self.reason}"


def summary(differences: Sequence[Difference], shown: int = 5) -> str:
    """The first differences, one after the other, and how many more there are."""
    more = len(differences) - shown
    return "; ".join(map(str, differences[:shown])) + (f"; and {more} more" if more > 0 else "")


def differences(lineage: Lineage, jobs: Iterable[Job]) -> Iterator[Difference]:
    """Every output of the jobs that exists and is not what its job would make now, at most one reason each."""
    for job in jobs:
        asked = json.loads(json.dumps(job.settings))
        for output in job.outputs:
            if (size := _size(output)) is None:
                continue
            record = lineage.record(output)
            if record is None:
                yield Difference(output, "nothing beside it records the settings that it was made with")
            elif record["bytes"] != size or (lineage.checksums and lineage.digest(output) != record["sha256"]):
                yield Difference(output, "it was changed after it was made")
            elif changed := list(changes(record["settings"], asked)):
                yield Difference(output, "; ".join(changed))
            elif other := _other_inputs(lineage, record):
                yield Difference(output, f"it was made from another {', '.join(other)} than there is now")
            elif record["settings"].get(CODE) != asked.get(CODE):
                yield Difference(output, "the code of its step has changed", only_code=True)


def _other_inputs(lineage: Lineage, record: dict[str, Any]) -> list[str]:
    """The inputs of an output that exist and are no longer what it was made from."""
    files = {lineage.located(name): digest for name, digest in record["inputs"].items()}
    return [file for file, digest in files.items() if lineage.digest(file) not in (digest, None)]


def _size(output: str) -> int | None:
    try:
        return os.stat(output).st_size  # noqa: PTH116
    except OSError:
        return None


def changes(made: Any, asked: Any, key: str = "") -> Iterator[str]:
    """What differs between two settings, a line each, such as `epochs is 1, the configuration asks for 5`.

    The fingerprint of the code is passed over.
    """
    if isinstance(made, dict) and isinstance(asked, dict):
        for name in sorted(made.keys() | asked.keys()):
            if name != CODE:
                yield from changes(made.get(name), asked.get(name), f"{key}.{name}" if key else name)
    elif made != asked:
        yield f"{key} was {_shown(made)}, now {_shown(asked)}"


def _shown(value: Any) -> str:
    text = "not set" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
