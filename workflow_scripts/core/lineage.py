"""The lineage of every output file: a record beside it of the settings and inputs that it was made from.

A step writes a hidden record `.NAME.made.json` beside each of its declared output files:

    step            the step that wrote the file
    settings        the step's settings, from `experiment/settings.py`
    inputs          the SHA-256 of each input file; paths start with `{results}` or `{resources}` for the folders of
                    the configuration, so that both folders can be moved
    sources         of a step that reads the user's own files: their size, time and SHA-256 (`core/source_files.py`)
    patterns        the patterns that these files match
    bytes, sha256   of the output file itself

`experiment/consistency.py` compares these records with the configuration.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import appears, naming, sha256, write_json
from workflow_scripts.core.names import RESOURCES, RESULTS
from workflow_scripts.core.source_files import Comparison, SourceFiles


def record_of(output: Path) -> Path:
    """The path of an output's lineage record."""
    return output.with_name(f".{output.name}.made.json")


class Lineage:
    """Reads lineage records, each once.

    Args:
        resources, results: the folders of the configuration.
        checksums: whether to compute the checksum of each file; otherwise only its size is compared with the record.
    """

    def __init__(self, resources: str | None = None, results: str | None = None, checksums: bool = False) -> None:
        folders = {"{resources}": resources, "{results}": results}
        self.folders = {name: folder for name, folder in folders.items() if folder}
        self.checksums = checksums
        self.digests: dict[str, str | None] = {}
        self.records: dict[str, dict[str, Any] | None] = {}
        self.source_files = Comparison(checksums)

    def record(self, output: str) -> dict[str, Any] | None:
        """The lineage of an output; None if there is no readable record."""
        if output not in self.records:
            file = record_of(Path(output))
            with contextlib.suppress(OSError):
                appears(file, since=os.stat(output).st_mtime)  # noqa: PTH116  (a thousand calls at each start)
            self.records[output] = _read(file)
        return self.records[output]

    def digest(self, file: str) -> str | None:
        """The SHA-256 of a file, from its record if that has the file's size; None if there is no file."""
        if file not in self.digests:
            self.digests[file] = self._digest(file)
        return self.digests[file]

    def _digest(self, file: str) -> str | None:
        try:
            size = os.stat(file).st_size  # noqa: PTH116  (a thousand calls at each start)
        except OSError:
            return None
        record = self.record(file)
        if record and record["bytes"] == size and not self.checksums:
            return str(record["sha256"])
        return sha256(Path(file))

    def edited_sources(self, record: Mapping[str, Any]) -> list[str]:
        """The user's files that have changed since an output was made from them: `its source my.csv has changed`."""
        return self.source_files.edited(record.get("sources", {}), record.get("patterns", ()))

    def note_times(self) -> None:
        """Note the times of source files that were touched, so that the next start need not compute their checksums.

        Call it after the sources of all records were compared.
        """
        for output, record in self.records.items():
            if not record or "sources" not in record or self.edited_sources(record):
                continue
            if now := self.source_files.touched(record["sources"]):
                record["sources"] |= now
                with contextlib.suppress(UserError):  # a folder owned by others
                    write_json(record_of(Path(output)), record)

    def named(self, file: Path) -> str:
        """The path of an input in records, such as `{resources}/corpora/xnli/en/train.parquet`."""
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
        """The checksum of each input, by its path in records. Files that do not exist are left out."""
        found = {self.named(file): self.digest(str(file)) for file in files}
        return {name: digest for name, digest in found.items() if digest is not None}


def is_current(settings: Mapping[str, Any], inputs: Iterable[Path], outputs: Iterable[Path]) -> bool:
    """Whether all outputs exist and were made with these settings from these inputs."""
    lineage = Lineage(os.environ.get(RESOURCES), os.environ.get(RESULTS), checksums=True)
    wanted = {"settings": json.loads(json.dumps(settings)), "inputs": lineage.inputs(inputs)}
    for output in map(str, outputs):
        record = lineage.record(output)
        if record is None or any(record[name] != value for name, value in wanted.items()):
            return False
        if lineage.digest(output) != record["sha256"]:
            return False
    return True


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
) -> Iterator[list[Path | SourceFiles]]:
    """Record the lineage of the outputs that the block writes, when it succeeds.

    Records of an earlier run are deleted first: an output without a record counts as missing. The block appends further
    input files, and the user's files, which only the step itself can know, to the list that it gets.
    """
    outputs = list(outputs)
    for record in map(record_of, outputs):
        with naming(record):
            record.unlink(missing_ok=True)
    lineage = Lineage(os.environ.get(RESOURCES), os.environ.get(RESULTS))
    read = lineage.inputs(inputs)
    found: list[Path | SourceFiles] = []
    yield found
    read |= lineage.inputs(file for file in found if isinstance(file, Path))
    sources = [files.as_record() for files in found if isinstance(files, SourceFiles)]
    for output in outputs:
        if output.is_file():
            own = {"bytes": output.stat().st_size, "sha256": sha256(output)}
            for of_user in sources:
                own |= of_user
            write_json(record_of(output), {"step": step, "settings": settings, "inputs": read, **own})
