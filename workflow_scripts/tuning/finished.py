"""A finished run with everything that its model needs on new texts, found through the lineage records of its files.

    results/ENCODER/TASK/SOURCE/ARM/seed-SEED  ──> settings, the encoder's folder, how its task reads and tokenises rows

The records name all inputs of a run: the encoder, the tokens and, through these, the rows. So a user only names the
folder of a run: no configuration is needed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json
from workflow_scripts.core.lineage import Lineage
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.tuning.settings import TrainingSettings

DEPTH = 5  # a run's folder in `results`: encoder, task, source, arm, seed


@dataclass(frozen=True)
class FinishedRun:
    """A run and where its inputs are.

    Attributes:
        folder: with `run.json` and `weights.safetensors`.
        results: the grid's results.
        record: the content of `run.json`.
        settings: of the training.
        encoder: the encoder's folder.
        tokenising: how texts became tokens; `split` is that of the validation set.
        corpus: the settings of `fetch_corpus` for the validation set of the first training language. Its `reading` says
            what the columns of a file mean.
        rows: the rows of that set.
    """

    folder: Path
    results: Path
    record: dict[str, Any]
    settings: TrainingSettings
    encoder: Path
    tokenising: TokeniseSettings
    corpus: dict[str, Any]
    rows: Path


def open_run(folder: Path, resources: Path) -> FinishedRun:
    """Find the files that belong to a run.

    Args:
        folder: of the run.
        resources: the grid's `resources`.

    Raises UserError, naming the file, if the folder is no finished run, if a file is missing, or if the encoder is not
    the one that the run was trained with.
    """
    record_file = folder / "run.json"
    if not record_file.is_file():
        raise UserError(
            f"{folder} is not a finished run: name a folder with run.json, such as results/ENCODER/TASK/en/lora/seed-13"
        )
    if not (folder / "weights.safetensors").is_file():
        raise UserError(f"{folder} has no weights.safetensors: run the workflow again with keep_weights: true")
    record = read_json(record_file)
    settings = TrainingSettings.read(record["settings"], f"{record_file}: settings")
    results = folder.absolute().parents[DEPTH - 1]
    lineage = Lineage(str(resources), str(results), checksums=True)
    inputs = _inputs(lineage, record_file)
    encoder = Path(_located(lineage, inputs, "/encoder.json", record_file))
    if lineage.digest(str(encoder)) != inputs[lineage.named(encoder)]:
        raise UserError(f"{encoder} is not the encoder that {folder} was trained with: name the grid's --resources")
    tokens = _located(lineage, inputs, "/validation/tokens.json", record_file)
    rows = _located(lineage, inputs, "/validation.parquet", record_file)
    return FinishedRun(
        folder=folder,
        results=results,
        record=record,
        settings=settings,
        encoder=encoder.parent,
        tokenising=TokeniseSettings.read(_record(lineage, Path(tokens))["settings"], f"{tokens}: settings"),
        corpus=_record(lineage, Path(rows))["settings"],
        rows=Path(rows),
    )


def _record(lineage: Lineage, file: Path) -> dict[str, Any]:
    record = lineage.record(str(file))
    if record is None:
        raise UserError(f"there is no record of how {file} was made: run the workflow again, which makes it")
    return record


def _inputs(lineage: Lineage, file: Path) -> dict[str, str]:
    return dict(_record(lineage, file)["inputs"])


def _located(lineage: Lineage, inputs: dict[str, str], ending: str, record: Path) -> str:
    """The first input with this ending. Raises UserError if there is none, or no such file."""
    name = next((name for name in inputs if name.endswith(ending)), None)
    if name is None:
        raise UserError(f"the record of {record} names no input *{ending}: run the workflow again, which makes it")
    found = lineage.located(name)
    if not Path(found).is_file():
        raise UserError(f"there is no {found}, which {record} was made from: name the grid's --resources")
    return found
