"""Collect the scores and records of the whole grid.

    seed-*/scores.csv  ──> scores.csv       encoder, task, source, method, prompt_length, ..., metric, value
    */run.json         ──> runs.csv         one row per training run, including the search's
    */log.jsonl        ──> curves.parquet   the training curves of these runs, thinned
    both               ──> results.parquet  one row per score, with the settings of its model
    seed-*/calibration.csv, run.json
                       ──> calibration.csv  the calibration error of each model by language, and its temperature
    */run.json         ──> oracle.csv       the validation score of the kept and of the best weights, by language
    encoders, corpora  ──> provenance.json  configuration, checksums, row counts, versions, machine, commit

Settings: `configuration`, the complete configuration; the files are found by the grid's paths, in the working folder.
The step fails if a result was computed with other settings or inputs than the configuration's: see
`core/lineage.py`.
"""

import argparse
import csv
import datetime
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workflow_scripts.core import languages
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import appears, read_json, sha256, write_json, written
from workflow_scripts.core.fingerprint import METRICS, fingerprint
from workflow_scripts.core.lineage import Lineage
from workflow_scripts.core.machine import processor
from workflow_scripts.core.names import NO_SEED, OUTSIDE, SNAKEMAKE, Values, base_source, predictions_file, shots_of
from workflow_scripts.core.settings import WholeGridSettings
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.corpora.schema import read_origin
from workflow_scripts.evaluation.calibration import COLUMNS
from workflow_scripts.evaluation.curves import curve_rows, read_log
from workflow_scripts.evaluation.other_grids import (
    CALIBRATION,
    ORACLE,
    RUNS,
    SCORES,
    SHOTS,
    check,
    joined,
    others,
)
from workflow_scripts.evaluation.tidy import UNIT, settings_of, write_tidy
from workflow_scripts.experiment.configuration import Configuration, load
from workflow_scripts.experiment.consistency import differences, summary
from workflow_scripts.experiment.grid import Arm, Grid, Paths
from workflow_scripts.experiment.jobs import outside_jobs, resource_jobs, tuning_jobs
from workflow_scripts.kinds import module_of
from workflow_scripts.reporting.comparable import comparable_pairs, why_not_comparable

SHOT_COLUMNS = "encoder task source method prompt_length shots seed language metric value".split()
CURVES_SCHEMA = pa.schema(
    {name: pa.string() for name in ("encoder", "task", "source", "method")}
    | {"prompt_length": pa.int32(), "seed": pa.int64(), "stage": pa.string(), "learning_rate": pa.float64()}
    | {"searched": pa.string()}
    | {"step": pa.int64(), "epoch": pa.float64(), "quantity": pa.string(), "value": pa.float64(), "kept": pa.bool_()}
)
CALIBRATION_COLUMNS = [
    *"encoder task source method prompt_length seed temperature language".split(),
    *COLUMNS,
]
ORACLE_COLUMNS = "encoder task source method prompt_length seed language metric kept best best_epoch".split()
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "seqeval", "numpy", "pandas")

NAMES = {
    "mini": "crossprompt mini benchmark",
    "files": "the tasks' own sources",
    "several": "the mini benchmark and other sources",
    "xtreme": "XTREME folder",
    "hub": "Hugging Face Hub and Universal Dependencies",
}
BENCHMARKS = {
    "files": "Each task is read from the source that its description names. Comparable with published numbers only"
    " where rows, encoder and settings are the same.",
    "several": "Some tasks are this project's mini benchmark, generated from templates; others are real datasets.",
    "mini": "This project's mini benchmark, generated from templates in seven languages; identical on every machine."
    " Its scores show how the methods differ on it; they are not comparable with published numbers.",
    "xtreme": "Files in the layout of XTREME's download scripts. Comparable with the paper only if the files are"
    " complete and the encoder and the settings are the paper's.",
    "hub": "The datasets' repositories on the Hugging Face Hub; UD-POS converted from Universal Dependencies as in"
    " XTREME. Comparable with the paper only if no dataset is limited and the encoder and the settings are the"
    " paper's.",
}


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, WholeGridSettings)
    result.add_argument(
        "--others", type=input_file, nargs="*", default=[], help="files of other grids that the report includes"
    )
    result.add_argument("--scores", type=output_file, required=True, help="the table of scores to write")
    result.add_argument("--runs", type=output_file, required=True, help="the table of runs to write")
    result.add_argument("--shots", type=output_file, required=True, help="the table of few-shot scores to write")
    result.add_argument("--calibration", type=output_file, required=True, help="the table of calibration to write")
    result.add_argument("--curves", type=output_file, required=True, help="the table of training curves to write")
    result.add_argument("--results", type=output_file, required=True, help="the tidy parquet file to write")
    result.add_argument("--oracle", type=output_file, required=True, help="the table of the oracle to write")
    result.add_argument("--provenance", type=output_file, required=True, help="the JSON file to write")
    return result


def main(arguments: argparse.Namespace) -> list[Path]:
    """Read everything and write the eight files; return the run files that they were built from."""
    settings: WholeGridSettings = arguments.settings
    configuration = load(settings.configuration)
    grid, paths = Grid(configuration), Paths.of(configuration)
    by_earlier_code = refuse_other_settings(configuration)
    grids = others(configuration.report.others)
    scores, runs, shots = (list(rows(grid, paths)) for rows in (score_rows, run_rows, shot_rows))
    record = provenance(configuration, grid, paths) | {"made_by_earlier_code": by_earlier_code}
    check(configuration.results, scores, record, grids)
    for path, name, rows, columns in (
        (arguments.scores, SCORES, scores, list(scores[0])),
        (arguments.runs, RUNS, runs, list(runs[0])),
        (arguments.shots, SHOTS, shots, SHOT_COLUMNS),
        (arguments.calibration, CALIBRATION, list(calibration_rows(grid, paths)), CALIBRATION_COLUMNS),
        (arguments.oracle, ORACLE, list(oracle_rows(grid, paths)), ORACLE_COLUMNS),
    ):
        write_table(path, [*rows, *(row for other in grids for row in other.table(name, columns))], columns)
    curves = [*training_curves(grid, paths), *(other.curves() for other in grids)]
    with written(arguments.curves) as temporary, temporary.open("wb") as file:
        pq.write_table(pa.concat_tables(curves), file, compression="zstd")
    write_tidy(arguments.results, tidy_rows(grid, paths))
    write_json(arguments.provenance, joined(record, grids))
    read = [*grid.outside_runs(paths, "scores.csv"), *grid.imported(paths), *grid.seed_runs(paths, "log.jsonl")]
    read += grid.seed_runs(paths, "calibration.csv")
    for name in ("scores.csv", "run.json"):
        read += [*grid.seed_runs(paths, name), *grid.shot_runs(paths, name)]
    return [Path(file) for _, _, file in read]


def refuse_other_settings(configuration: Configuration) -> int:
    """Return how many outputs an earlier version of the code made.

    Raises UserError if an output was computed with other settings or inputs than the configuration's.
    """
    jobs = [*resource_jobs(configuration), *tuning_jobs(configuration), *outside_jobs(configuration)]
    differing = list(differences(Lineage(configuration.resources, configuration.results), jobs))
    # Data that the user edits during the run is left to the next run: all these results are from the rows before the
    # edit.
    refused = [difference for difference in differing if not difference.only_code and not difference.only_sources]
    if refused:
        raise UserError(
            f"{len(refused)} results do not belong to this configuration, so no tables were written. Run the workflow"
            " again to remake them; if another grid uses the same folders, set the keys resources and results to other"
            f" folders. {summary(refused)}"
        )
    return sum(difference.only_code for difference in differing)


def arm_columns(arm: Arm) -> dict[str, Any]:
    """Return the columns that identify an arm."""
    return {
        "encoder": arm.encoder,
        "task": arm.task,
        "source": arm.source,
        "method": arm.method,
        "prompt_length": arm.prompt_length,
    }


def score_rows(grid: Grid, paths: Paths) -> Iterable[dict[str, Any]]:
    """Yield one row per run, language and metric; those of `arms` last. Raises UserError if a file is incomplete."""
    found = grid.seed_runs(paths, "scores.csv"), grid.outside_runs(paths, "scores.csv")
    for arm, seed, scores in itertools.chain(*found):
        for row in scores_of(grid, arm, Path(scores)):
            yield {**arm_columns(arm), "seed": seed, **row}


def calibration_rows(grid: Grid, paths: Paths) -> Iterable[dict[str, Any]]:
    """Yield one row per zero-shot model and language; none for models without probabilities.

    Raises UserError if a file is incomplete.
    """
    for arm, seed, file in grid.seed_runs(paths, "calibration.csv"):
        temperature = read_json(Path(paths.run(*arm.place, seed, "run.json")))["temperature"]
        with Path(file).open(newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
        expected = grid.tested_by(arm) if rows else []
        if [row["language"] for row in rows] != expected or not ends_with_newline(Path(file)):
            raise UserError(f"{file} does not contain the grid's languages: delete it and run the workflow again")
        for row in rows:
            yield {**arm_columns(arm), "seed": seed, "temperature": temperature, **row}


def shot_rows(grid: Grid, paths: Paths) -> Iterable[dict[str, Any]]:
    """Yield the same for the models that were tuned with rows of a target language: the language is the target."""
    for arm, seed, scores in grid.shot_runs(paths, "scores.csv"):
        found = shots_of(arm.source)
        assert found is not None
        columns = {**arm_columns(arm), "source": base_source(arm.source), "shots": found[0]}
        for row in scores_of(grid, arm, Path(scores)):
            yield {**columns, "seed": seed, **row}


def tidy_rows(grid: Grid, paths: Paths) -> Iterable[dict[str, Any]]:
    """Yield every score with the settings of its model: of zero-shot and few-shot models and of `arms`."""
    runs = itertools.chain(grid.seed_runs(paths, "run.json"), grid.shot_runs(paths, "run.json"))
    known = [(arm, seed, settings_of(read_json(Path(record)))) for arm, seed, record in runs]
    known += [(arm, seed, outside_row(grid.configuration, arm, seed)) for arm, seed, _ in grid.outside_runs(paths, "")]
    for arm, seed, settings in known:
        definition = grid.configuration.tasks[arm.task].definition
        shots = shots_of(arm.source)
        for row in scores_of(grid, arm, Path(paths.scores(*arm.place, seed))):
            yield {
                **settings,
                **arm_columns(arm),
                "source": base_source(arm.source) if shots else arm.source,
                "shots": shots[0] if shots else 0,
                "task_title": definition.title,
                "kind": definition.kind,
                "seed": None if arm.encoder == OUTSIDE and seed == NO_SEED else seed,
                "language": row["language"],
                "language_name": languages.language(row["language"]).name or row["language"],
                "metric": row["metric"],
                "value": float(row["value"]),
                "unit": UNIT,
                "made_elsewhere": arm.encoder == OUTSIDE,
            }


def scores_of(grid: Grid, arm: Arm, file: Path) -> list[dict[str, str]]:
    """Return one model's scores. Raises UserError if the file is incomplete."""
    expected = [
        (language, metric.name)
        for language in grid.tested_by(arm)
        for metric in grid.configuration.tasks[arm.task].definition.metrics
    ]
    with file.open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    # A truncated table may end within a number.
    if [(row["language"], row["metric"]) for row in rows] != expected or not ends_with_newline(file):
        raise UserError(f"{file} does not contain the grid's scores: delete it and run the workflow again")
    return rows


def ends_with_newline(path: Path) -> bool:
    """Whether a file ends with a newline."""
    return path.read_bytes().endswith(b"\n")


def searched_runs(grid: Grid, paths: Paths) -> Iterator[tuple[Arm, Values, str]]:
    """Yield the arm, the candidate and the run.json of each of the search's runs.

    Waits for the files that this step reads. Snakemake does not: they are not declared outputs of the search.
    """
    for arm, values, record in grid.search_runs(paths, "run.json"):
        for name in ("run.json", "log.jsonl"):
            appears(Path(record).with_name(name))
        yield arm, values, record


def run_rows(grid: Grid, paths: Paths) -> Iterable[dict[str, Any]]:
    """Yield one row per training run: first the search's, then the seeds', then what is known of `arms`."""
    seed = grid.configuration.search.seed
    for arm, values, record in searched_runs(grid, paths):
        winner = read_json(Path(paths.selected(*arm.place)))
        yield run_row(arm, seed, read_json(Path(record)), stage="search", selected=values == winner)
    for arm, seed, record in grid.seed_runs(paths, "run.json"):
        yield run_row(arm, seed, read_json(Path(record)), stage="seed", selected=True)
    for arm, seed, _ in grid.outside_runs(paths, ""):
        yield outside_row(grid.configuration, arm, seed)


def oracle_rows(grid: Grid, paths: Paths) -> Iterable[dict[str, Any]]:
    """Yield one row per model and language of `oracle`: the main metric on this language's validation set.

    `kept` is that of the model, `best` that of the best evaluation in this language. None without `oracle`.
    """
    for arm, seed, file in grid.seed_runs(paths, "run.json"):
        record = read_json(Path(file))
        for language, kept in record["oracle"].items():
            scores = {one["epoch"]: one["oracle"][language] for one in record["evaluations"]}
            if scores:  # none if the training diverged before the first evaluation
                best = max(scores, key=scores.__getitem__)
                columns = {**arm_columns(arm), "seed": seed, "language": language, "metric": record["metric"]}
                yield {**columns, "kept": kept, "best": scores[best], "best_epoch": best}


def searched_text(values: Values) -> str:
    """A candidate's values besides its learning rate: `dropout 0.1, prompt_length 16`."""
    return ", ".join(f"{key} {value}" for key, value in sorted(values.items()) if key != "learning_rate")


def run_row(arm: Arm, seed: int, record: dict[str, Any], stage: str, selected: bool) -> dict[str, Any]:
    """Return the row of one training run."""
    copied = (
        "learning_rate epochs epochs_taken kept_epoch stopped left_search_after together metric validation majority"
        " tuned_parameters encoder_parameters seconds examples_per_second peak_memory_mb stored_bytes problem"
    ).split()
    return {
        **arm_columns(arm),
        "seed": seed,
        "stage": stage,
        "selected": selected,
        "searched": searched_text(record["candidate"]),
        "keep": record["settings"]["keep"],
        **{name: record[name] for name in copied},
    }


def training_curves(grid: Grid, paths: Paths) -> Iterator[pa.Table]:
    """Yield the points of each run's training curves: of the search's runs, then of the seeds'."""
    seed = grid.configuration.search.seed
    for arm, _, record in searched_runs(grid, paths):
        yield run_curves(arm, seed, Path(record), stage="search")
    for arm, seed, record in grid.seed_runs(paths, "run.json"):
        yield run_curves(arm, seed, Path(record), stage="seed")


def run_curves(arm: Arm, seed: int, file: Path, stage: str) -> pa.Table:
    """Return the points of the training curves of one run."""
    record = read_json(file)
    columns = {
        **arm_columns(arm),
        "seed": seed,
        "stage": stage,
        "learning_rate": record["learning_rate"],
        "searched": searched_text(record["candidate"]),
    }
    group = file.parent.parent
    made_by = group.with_name(f"{group.name}.json") if stage == "search" else file
    points = curve_rows(read_log(file.with_name("log.jsonl"), made_by), record)
    return pa.Table.from_pylist([{**columns, **point} for point in points], schema=CURVES_SCHEMA)


def outside_row(configuration: Configuration, arm: Arm, seed: int) -> dict[str, Any]:
    """Return the row of predictions that were made elsewhere: their costs, as the configuration states them."""
    return {
        **arm_columns(arm),
        "seed": seed,
        "stage": OUTSIDE,
        "selected": True,
        "together": 1,
        "metric": configuration.tasks[arm.task].definition.metrics[0].name,
        **configuration.arms[arm.method].cost.model_dump(exclude_none=True),
    }


def provenance(configuration: Configuration, grid: Grid, paths: Paths) -> dict[str, Any]:
    """Return where the numbers come from: the content of provenance.json."""
    source = benchmark_source(configuration)
    encoders = {name: read_json(Path(paths.encoder(name))) for name in configuration.encoders}
    corpora = [corpus_record(Path(paths.corpus(*part)), *part) for part in grid.corpora()]
    reasons = why_not_comparable(configuration, encoders, corpora)
    return {
        "benchmark": {
            "name": NAMES[source],
            "source": source,
            "comparable_with_the_paper": not reasons,
            "why_not_comparable": reasons,
            "comparable_pairs": comparable_pairs(configuration, encoders, corpora),
            "description": BENCHMARKS[source],
        },
        "configuration": configuration.model_dump(),
        "encoders": encoders,
        "corpora": corpora,
        "tokens": [
            dict(zip(("encoder", "task", "language", "split", "answers"), part, strict=True))
            | read_json(Path(paths.tokens(*part)))
            for part in grid.tokens()
        ],
        "ceilings": [
            {"encoder": encoder, "task": task, "metrics": read_json(Path(file))}
            for encoder, task, file in grid.bounded(paths)
        ],
        "words": answered_in_words(configuration),
        "outside": [record for run in grid.imported(paths) for record in imported(grid, *run)],
        "chosen_by_earlier_metrics": chosen_by_earlier_metrics(grid, paths),
        "versions": {"python": platform.python_version(), "snakemake": os.environ.get(SNAKEMAKE)}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "trained_on": trained_on(grid, paths),
        "machine": {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count()},
        "git_commit": git_commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def imported(grid: Grid, arm: Arm, seed: int, record: str) -> Iterable[dict[str, Any]]:
    """Yield the origin of predictions that were made elsewhere, by language: the file, its checksum, the counts."""
    for language in grid.tested_by(arm):
        origin = read_origin(predictions_file(Path(record), language)) or {}
        yield {"arm": arm.method, "task": arm.task, "seed": seed, "language": language, **origin}


def benchmark_source(configuration: Configuration) -> str:
    """Return where the tasks' rows come from: a key of `NAMES`."""
    types = {configuration.source_of(task).type for task in configuration.tasks}
    if types == {"mini"}:
        return "mini"
    if "mini" in types:
        return "several"
    named = {configuration.source_name(task) for task in configuration.tasks} & {"xtreme", "hub"}
    return named.pop() if len(named) == 1 and len(types - {"universal_dependencies"}) <= 1 else "files"


def answered_in_words(configuration: Configuration) -> list[dict[str, Any]]:
    """Return the methods that answer in words, with the template, and the most tokens if they generate, by task."""
    found = []
    for task, section in configuration.tasks.items():
        methods = [
            name
            for name in configuration.methods
            if configuration.runs_on(task, name) and configuration.training_of(task, name).answers == "words"
        ]
        if methods and section.definition.words:
            new_tokens = section.definition.words.new_tokens if section.definition.generates else None
            template = section.definition.words.template
            found.append({"task": task, "methods": methods, "template": template, "new_tokens": new_tokens})
    return found


def chosen_by_earlier_metrics(grid: Grid, paths: Paths) -> int:
    """Return how many of the scored models were chosen with an earlier version of the metrics' code."""
    now = {task: fingerprint(METRICS, module_of(grid.kind(task), "metrics")) for task in grid.configuration.tasks}
    return sum(
        read_json(Path(record))["metrics_code"] != now[arm.task] for arm, _, record in grid.seed_runs(paths, "run.json")
    )


def trained_on(grid: Grid, paths: Paths) -> list[dict[str, Any]]:
    """Return how many of the scored models were trained on each device, by precision and quantisation."""
    records = [read_json(Path(record)) for _, _, record in grid.seed_runs(paths, "run.json")]
    found = Counter((record["device"], record["precision"], record["settings"]["quantise"]) for record in records)
    return [
        {"device": device, "precision": precision, "quantise": quantise, "models": models}
        for (device, precision, quantise), models in sorted(found.items(), key=lambda item: tuple(map(str, item[0])))
    ]


def corpus_record(path: Path, task: str, language: str, split: str) -> dict[str, Any]:
    """Return row count, checksum and origin (files, hashes, licences) of a corpus file, and of a test set's rows."""
    record = {
        "task": task,
        "language": language,
        "split": split,
        "rows": pq.read_metadata(path).num_rows,
        "sha256": sha256(path),
        "origin": read_origin(path),
    }
    return record | ({"rows_sha256": rows_sha256(path)} if split == "test" else {})


def rows_sha256(path: Path) -> str:
    """Return the checksum of a corpus's rows, independent of the file format."""
    digest = hashlib.sha256()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def git_commit() -> str | None:
    """Return this project's commit, with `+` if tracked files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def write_table(path: Path, rows: Iterable[dict[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows as CSV with the columns of the first; others may lack some. `columns`: of a table without rows."""
    found = list(rows)
    with written(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(columns or found[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(found)


if __name__ == "__main__":
    run(main, parser())
