"""Recompute everything that follows from predictions and run records, and compare it with the existing files.

    predictions, rows, run.json, log.jsonl  ──> scores, units, calibration of each model
                                            ──> tables of the grid ──> statistics, examples, report, summary

The steps themselves do it, in a temporary folder: nothing is trained, and nothing in the grid's folders changes. Each
step reads the recomputed outputs of earlier steps, so a changed file is named, but not everything derived from it.
"""

import importlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow_scripts.core.files import read_json, write_json
from workflow_scripts.core.names import UNTUNED, languages_name
from workflow_scripts.experiment.configuration import Configuration
from workflow_scripts.experiment.consistency import Job
from workflow_scripts.experiment.grid import Arm, Grid, Paths
from workflow_scripts.experiment.jobs import outside_jobs, summary_jobs, tuning_jobs
from workflow_scripts.experiment.settings import as_text

TEMPLATES = Path(__file__).resolve().parents[2] / "report"
PROVENANCE, TABLES = "provenance.json", "tables"
# What the provenance records about the time at which it was written, and about the code and the machine that wrote it.
MOMENT = ("date", "git_commit", "machine", "versions", "made_by_earlier_code", "chosen_by_earlier_metrics")
OF_MODEL = {"scores": "scores.csv", "units": "units.parquet", "calibration": "calibration.csv"}
ANALYSES = {name: f"{name}.csv" for name in ("alignment", "projections", "boundaries")} | {"samples": "samples.json"}
COLLECTED = {name: f"{name}.csv" for name in ("scores", "runs", "shots", "calibration", "oracle")}
COLLECTED |= {"curves": "curves.parquet", "provenance": PROVENANCE}
COMPARED = {"differences": "differences.csv", "ranks": "ranks.csv"}
OTHERS = {"sources": "source_differences.csv", "encoders": "encoder_differences.csv"}
EXPLAINED = {"distances": "distances.csv", "explained": "explained.csv"}
EXAMPLES = {"examples": "examples.json"}
SCORES_AND_RUNS = {name: COLLECTED[name] for name in ("scores", "runs")}


@dataclass(frozen=True)
class Step:
    """A step that aggregates over the grid: its options for files of the results folder, by option.

    Attributes:
        reads: what earlier ones of these steps wrote.
        writes: its outputs.
    """

    reads: Mapping[str, str]
    writes: Mapping[str, str]


STEPS = {
    "gather": Step({}, ANALYSES),
    "collect": Step({}, COLLECTED | {"results": "results.parquet"}),
    "compare": Step(SCORES_AND_RUNS, COMPARED | OTHERS),
    "exemplify": Step(SCORES_AND_RUNS, EXAMPLES),
    "explain": Step(SCORES_AND_RUNS, EXPLAINED),
    "render": Step(
        {
            **(COLLECTED | ANALYSES | COMPARED | EXAMPLES | EXPLAINED),
            **{f"{option.removesuffix('s')}-differences": name for option, name in OTHERS.items()},
        },
        {"output": "report.html", "summary": "summary.txt"},
    ),
}


@dataclass
class Comparison:
    """The files that were compared.

    Attributes:
        files: their number.
        differing: why a file differs, or cannot be recomputed, by file.
        left_out: the steps that were not repeated, since their inputs differ.
    """

    files: int = 0
    differing: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def add(self, stored: Path, again: Path) -> None:
        """Compare a file, if it exists, with the recomputed one."""
        if stored.is_file():
            self.files += 1
            if not again.is_file():
                self.differing[str(stored)] = "it is not among the recomputed files"
            elif stored.read_bytes() != again.read_bytes():
                self.differing[str(stored)] = "it differs from the recomputed file"


def recompute(configuration: Configuration) -> Comparison:
    """Recompute all outputs that exist, and compare them byte by byte. The working folder is the grid's.

    Of `provenance.json` the keys in `MOMENT` are not compared. Where the scores of a model differ, or a step ends in an
    error, the steps that would read its outputs are left out.
    """
    found, results = Comparison(), Path(configuration.results)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for job, words in score_jobs(configuration):
            stored, again = [Path(output) for output in job.outputs], [folder / name for name in OF_MODEL.values()]
            words = [*words, *_options(dict(zip(OF_MODEL, again, strict=True)))]
            if _exist(stored) and _run(job, words, stored, found):
                for file, other in zip(stored, again, strict=True):
                    found.add(file, other)
        blocked = bool(found.differing)
        for job in summary_jobs(configuration):
            step = STEPS[job.step]
            stored = [results / name for name in step.writes.values()]
            if not _exist(stored):
                continue
            if blocked:
                found.left_out += (job.step,)
                continue
            files = {option: folder / name for option, name in {**step.reads, **step.writes}.items()}
            if not _run(job, [*_options(files), *_further_words(job.step, configuration, folder)], stored, found):
                blocked = True
                continue
            if job.step == "collect":
                _take_over_moment(folder / PROVENANCE, results / PROVENANCE)
            if job.step == "render":
                stored += [results / TABLES / file.name for file in sorted((folder / TABLES).iterdir())]
            for file in stored:
                found.add(file, folder / file.relative_to(results))
    return found


def score_jobs(configuration: Configuration) -> Iterator[tuple[Job, list[str]]]:
    """Every job that scores a model, with the options for its inputs."""
    grid, paths = Grid(configuration), Paths.of(configuration)
    predictions: dict[str, tuple[Arm, list[str]]] = {}
    for arm, seed, scores in itertools.chain(grid.seed_runs(paths, "scores.csv"), grid.shot_runs(paths, "scores.csv")):
        groups = grid.tested_groups(arm.task, arm.source)
        records = [paths.predictions(*arm.place, seed, languages_name(group)) for group in groups]
        predictions[scores] = arm, records
    for arm, seed, record in grid.imported(paths):
        predictions[paths.scores(*arm.place, seed)] = arm, [record]
    for job in itertools.chain(tuning_jobs(configuration), outside_jobs(configuration)):
        if job.step == "score":
            arm, records = predictions[job.outputs[0]]
            rows = [paths.corpus(arm.task, language, "test") for language in grid.tested_by(arm)]
            yield job, ["--predictions", *records, "--rows", *rows]


def _options(files: Mapping[str, Path]) -> list[str]:
    return [word for option, file in files.items() for word in (f"--{option}", str(file))]


def _further_words(step: str, configuration: Configuration, folder: Path) -> list[str]:
    """The options of a step besides those for the tables of the results folder."""
    if step == "gather":
        grid, paths = Grid(configuration), Paths.of(configuration)
        task = grid.analysed_task()
        groups = grid.language_groups(task) if task is not None and grid.analysed_languages() else []
        encoder = next(iter(configuration.encoders))
        vectors = [paths.vectors(encoder, UNTUNED, languages_name(group)) for group in groups]
        return ["--results", configuration.results, "--vectors", *vectors]
    if step == "render":
        fixed = {"published": TEMPLATES / "published.csv", "templates": TEMPLATES, "tables": folder / TABLES}
        return _options(fixed)
    return []


def _exist(files: Iterable[Path]) -> bool:
    return any(file.is_file() for file in files)


def _run(job: Job, words: Sequence[str], stored: Iterable[Path], found: Comparison) -> bool:
    """Run a step; return whether it succeeded. If not, its existing outputs count as differing."""
    module = importlib.import_module(f"workflow_scripts.{job.step}")
    try:
        module.main(module.parser().parse_args(["--settings", as_text(dict(job.settings)), *words]))
    except Exception as error:  # whatever a changed file leads to
        reason = " ".join(str(error).splitlines()) or type(error).__name__
        existing = [str(file) for file in stored if file.is_file()]
        found.differing |= dict.fromkeys(existing, f"it cannot be recomputed: {reason}")
        return False
    return True


def _take_over_moment(again: Path, stored: Path) -> None:
    """Replace the fields in `MOMENT` of a provenance with those of the stored one, if that can be read."""
    if stored.is_file():
        before: dict[str, Any] = read_json(stored)
        write_json(again, read_json(again) | {key: before[key] for key in MOMENT if key in before})
