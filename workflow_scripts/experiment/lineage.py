"""The lineage of every output: the settings and the inputs that it was made from, recorded beside it.

A step leaves a hidden record `.NAME.made.json` beside each of its declared output files:

    step        the step that made the file
    settings    the step's settings, as `experiment/settings.py` composes them
    inputs      the SHA-256 of each input file; `{results}` and `{resources}` in a path are the folders of the
                configuration, so that both can be moved
    bytes, sha256   of the file itself

`experiment/consistency.py` compares these records with what the configuration asks for now.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.experiment.files import naming, sha256, write_json
from workflow_scripts.experiment.names import RESOURCES, RESULTS


def record_of(output: Path) -> Path:
    """Where the lineage of an output is recorded."""
    return output.with_name(f".{output.name}.made.json")


class Lineage:
    """Reads lineage records, each once.

    Args:
        resources, results: the folders of the configuration.
        checksums: whether to recompute the checksum of each file; otherwise only its size is compared with its record.
    """

    def __init__(self, resources: str | None = None, results: str | None = None, checksums: bool = False) -> None:
        folders = {"{resources}": resources, "{results}": results}
        self.folders = {name: folder for name, folder in folders.items() if folder}
        self.checksums = checksums
        self.digests: dict[str, str | None] = {}
        self.records: dict[str, dict[str, Any] | None] = {}

    def record(self, output: str) -> dict[str, Any] | None:
        """The lineage of an output; None where there is none, or none that can be read."""
        if output not in self.records:
            self.records[output] = _read(record_of(Path(output)))
        return self.records[output]

    def digest(self, file: str) -> str | None:
        """The SHA-256 of a file, from its lineage if it has one of this size; None where there is no file."""
        if file not in self.digests:
            self.digests[file] = self._digest(file)
        return self.digests[file]

    def _digest(self, file: str) -> str | None:
        try:
            size = os.stat(file).st_size  # noqa: PTH116  (a thousand times in a start)
        except OSError:
            return None
        record = self.record(file)
        if record and record["bytes"] == size and not self.checksums:
            return str(record["sha256"])
        return sha256(Path(file))

    def named(self, file: Path) -> str:
        """The path of an input as records name it."""
        for name, folder in self.folders.items():
            with contextlib.suppress(ValueError):
                return f"{name}/{file.absolute().relative_to(Path(folder).absolute()).as_posix()}"
        return str(file)

    def located(self, name: str) -> str:
        """The inverse of `named`."""
        for placeholder, folder in self.folders.items():
            if name.startswith(placeholder + "/"):
                return folder + name.removeprefix(placeholder)
        return name

    def inputs(self, files: Iterable[Path]) -> dict[str, str]:
        """The checksum of each input, by the name that records give it. Files that do not exist are left out."""
        found = {self.named(file): self.digest(str(file)) for file in files}
        return {name: digest for name, digest in found.items() if digest is not None}


def _read(file: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    is_whole = isinstance(record, dict) and {"settings", "inputs", "bytes", "sha256"} <= record.keys()
    return record if is_whole else None


@contextlib.contextmanager
def recorded(
    step: str, settings: Mapping[str, Any], inputs: Iterable[Path], outputs: Iterable[Path]
) -> Iterator[list[Path]]:
    """Record the lineage of the outputs that are made within the block, once it succeeds.

    A record of an earlier run goes first: an output beside which there is none counts as not made. The block adds to
    the list that it gets the inputs that it finds by itself.
    """
    outputs = list(outputs)
    for record in map(record_of, outputs):
        with naming(record):
            record.unlink(missing_ok=True)
    lineage = Lineage(os.environ.get(RESOURCES), os.environ.get(RESULTS))
    read = lineage.inputs(inputs)
    found: list[Path] = []
    yield found
    read |= lineage.inputs(found)
    for output in outputs:
        if output.is_file():
            own = {"bytes": output.stat().st_size, "sha256": sha256(output)}
            write_json(record_of(output), {"step": step, "settings": settings, "inputs": read, **own})
