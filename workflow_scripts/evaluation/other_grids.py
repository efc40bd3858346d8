"""The results of other grids, for a report of several grids.

Their tables are joined with this grid's, as if all were one grid. This is refused if numbers could not be compared or
would count twice: different test rows, different encoders with the same name, and arms that two grids share.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json
from workflow_scripts.core.names import OF_OTHER_GRIDS, arm_name
from workflow_scripts.experiment.grid import Arm

Row = dict[str, Any]
SCORES, RUNS, SHOTS, ORACLE, CALIBRATION, CURVES, PROVENANCE = OF_OTHER_GRIDS
JOINED = ("tokens", "ceilings", "words", "outside")  # lists of the provenance that two grids may share entries of


class _Corpus(BaseModel):
    task: str
    language: str
    split: str


class _Benchmark(BaseModel):
    source: str
    comparable_with_the_paper: bool
    comparable_pairs: list[list[str]] = []
    why_not_comparable: list[str] = []


class _Record(BaseModel):
    """The keys that are read from another grid's provenance."""

    corpora: list[_Corpus]
    encoders: dict[str, dict[str, Any]]
    benchmark: _Benchmark
    chosen_by_earlier_metrics: int = 0
    made_by_earlier_code: int = 0


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Raise UserError if a file of another grid, which may come from anybody, is not as this workflow writes it."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"report.with: {file} is not what this workflow writes ({type(error).__name__}: {reason}): copy the results"
            " again, or run that grid again"
        ) from error


@dataclass(frozen=True)
class OtherGrid:
    """The results folder of another grid."""

    folder: Path

    @property
    def files(self) -> list[Path]:
        """The files that are read from it, besides units."""
        return [self.folder / name for name in OF_OTHER_GRIDS]

    def table(self, name: str, columns: Sequence[str]) -> list[Row]:
        """The rows of one of its tables. Raises UserError if it has other columns than this grid's."""
        file = self.folder / name
        with _reading(file), file.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines, strict=True)
            if list(reader.fieldnames or ()) != list(columns):
                raise UserError(f"report.with: {file} has other columns: run that grid again with this version")
            rows = list(reader)
            if any(None in row or None in row.values() for row in rows):
                raise ValueError("a row with more or fewer columns than the header")
            return rows

    def curves(self) -> pa.Table:
        """The points of its training curves. Raises UserError for a damaged file."""
        with _reading(self.folder / CURVES), pq.ParquetFile(self.folder / CURVES) as file:
            return file.read()

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Its record. Raises UserError if it is a report of several grids itself."""
        with _reading(self.folder / PROVENANCE):
            record: dict[str, Any] = read_json(self.folder / PROVENANCE)
            if record.get("other_grids"):
                parts = ", ".join(one["results"] for one in record["other_grids"])
                raise UserError(f"report.with: {self.folder} is a report of several grids: name {parts} instead")
            _Record.model_validate(record)
        return record

    def arms(self) -> set[Arm]:
        """The arms that it has scores for."""
        file = self.folder / SCORES
        with _reading(file), file.open(newline="", encoding="utf-8") as lines:
            return {arm_of(row) for row in csv.DictReader(lines)}


def arm_of(row: Mapping[str, Any]) -> Arm:
    """The arm of a row of a table."""
    return Arm(row["encoder"], row["task"], row["source"], row["method"], int(row["prompt_length"]))


def others(folders: Sequence[str]) -> list[OtherGrid]:
    """The grids of `report.with`."""
    return [OtherGrid(Path(folder)) for folder in folders]


def folders_of_arms(grids: Sequence[OtherGrid]) -> dict[Arm, Path]:
    """The results folder of each arm of other grids."""
    return {arm: grid.folder for grid in grids for arm in grid.arms()}


def check(results: str, scores: Sequence[Row], provenance: Mapping[str, Any], grids: Sequence[OtherGrid]) -> None:
    """Raise UserError unless the grids can be joined: see the top of this module.

    Args:
        results, scores, provenance: of this grid: its folder, its scores and its record.
        grids: the others.
    """
    places = dict.fromkeys((arm_of(row) for row in scores), results)
    rows = dict(_test_rows(provenance, results))
    encoders = {name: (record.get("files"), results) for name, record in provenance["encoders"].items()}
    for grid in grids:
        where = str(grid.folder)
        for arm in sorted(grid.arms(), key=str):
            if (first := places.setdefault(arm, where)) != where:
                of = f"{arm.encoder}, {arm.task}, {arm.source}, {arm_name(arm.method, arm.prompt_length)}"
                raise UserError(f"report.with: {first} and {where} both have the arm {of}: leave one of them out")
        for key, (checksum, _) in _test_rows(grid.provenance, where):
            known, first = rows.setdefault(key, (checksum, where))
            if known is None or known != checksum:
                raise UserError(
                    f"report.with: the test rows of {key[0]} in {key[1]} differ between {first} and {where}: run both"
                    " with the same data and limits"
                )
        for name, record in grid.provenance["encoders"].items():
            files, first = encoders.setdefault(name, (record.get("files"), where))
            if files != record.get("files"):
                raise UserError(
                    f"report.with: the encoder {name!r} of {first} and that of {where} have other weights: give one"
                    " another name"
                )


def _test_rows(provenance: Mapping[str, Any], where: str) -> Iterator[tuple[tuple[str, str], tuple[str | None, str]]]:
    """The checksum of the rows of each test set, by task and language."""
    for corpus in provenance["corpora"]:
        if corpus["split"] == "test":
            yield (corpus["task"], corpus["language"]), (corpus.get("rows_sha256"), where)


def joined(provenance: Mapping[str, Any], grids: Sequence[OtherGrid]) -> dict[str, Any]:
    """The record of all grids: what they read and are made of, and a summary of each other grid.

    The configuration stays this grid's; `other_grids` has those of the others.
    """
    found = dict(provenance) | {name: list(provenance.get(name) or []) for name in (*JOINED, "trained_on")}
    known = {(one["task"], one["language"], one["split"]) for one in provenance["corpora"]}
    found |= {"corpora": list(provenance["corpora"]), "encoders": dict(provenance["encoders"]), "other_grids": []}
    benchmark = dict(provenance["benchmark"])
    for grid in grids:
        record = grid.provenance
        for name in JOINED:
            found[name] += [one for one in record.get(name) or [] if one not in found[name]]
        found["trained_on"] += record.get("trained_on") or []
        new = [one for one in record["corpora"] if (one["task"], one["language"], one["split"]) not in known]
        known |= {(one["task"], one["language"], one["split"]) for one in new}
        found["corpora"] += new
        found["encoders"] = {**record["encoders"], **found["encoders"]}
        for name in ("chosen_by_earlier_metrics", "made_by_earlier_code"):
            found[name] = found.get(name, 0) + record.get(name, 0)
        own = record["benchmark"]
        benchmark["comparable_pairs"] = benchmark.get("comparable_pairs", []) + own.get("comparable_pairs", [])
        reasons = [*benchmark.get("why_not_comparable", []), *own.get("why_not_comparable", [])]
        benchmark["why_not_comparable"] = list(dict.fromkeys(reasons))
        benchmark["comparable_with_the_paper"] &= own["comparable_with_the_paper"]
        if benchmark["source"] != own["source"]:
            benchmark["source"] = "several"
        kept = ("configuration", "git_commit", "date", "versions", "machine")
        found["other_grids"].append({"results": str(grid.folder), **{name: record.get(name) for name in kept}})
    return found | {"benchmark": benchmark}
