"""Names in paths that rules and steps share. Steps import this module; it does not depend on the configuration."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LONGEST_NAME = 120  # characters of a group of languages or candidates in a path

# The environment variable with the methods whose weights are deleted after their predictions. It is not among a job's
# settings: whether weights are kept changes no result, so it must not rerun anything.
DROPPED = "CROSSPROMPT_DROPPED"
# The variable with the values of `micro_batch_size` that are set, by task and method, as JSON. They affect results no
# more than running out of memory does, so they must not rerun anything either.
MICRO_BATCHES = "CROSSPROMPT_MICRO_BATCHES"
# The variable with the folder of the key `scratch`, unexpanded: its variables are expanded on the node that trains.
SCRATCH = "CROSSPROMPT_SCRATCH"
# The variable with the seconds after which a file from another machine is visible: `--latency-wait`. Jobs inherit it.
LATENCY = "CROSSPROMPT_LATENCY"
# The variable with Snakemake's version, since steps may run in environments without Snakemake.
SNAKEMAKE = "CROSSPROMPT_SNAKEMAKE"
# The variables with the folders of the configuration, for the paths in lineage records.
RESOURCES, RESULTS = "CROSSPROMPT_RESOURCES", "CROSSPROMPT_RESULTS"


# What distinguishes a candidate of a search: `learning_rate`, and the keys of `search.over`.
Values = dict[str, Any]


def learning_rate_name(learning_rate: float) -> str:
    """The path part of a learning rate: 0.0001 and 1e-4 are both `0.0001`, 3e-5 is `3e-05`."""
    return repr(float(learning_rate))


def candidate_name(values: Values) -> str:
    """The path part of a candidate: `lr-0.001`, `lr-0.001+dropout-0.1`, independent of the order of its keys."""
    others = [f"{key}-{str(value).lower()}" for key, value in sorted(values.items()) if key != "learning_rate"]
    return "+".join([f"lr-{learning_rate_name(values['learning_rate'])}", *others])


def candidate_folder(record: Path, values: Values) -> Path:
    """The folder of a candidate's run, `search/0.001+0.0005/lr-0.001`, from its group's `search/0.001+0.0005.json`.

    The group is part of the path: the same candidate may have been in another group, with other settings.
    """
    return record.parent / record.stem / candidate_name(values)


def group_name(candidates: Sequence[Values]) -> str:
    """The path part of a group of candidates that one job trains: `0.001+0.0005`.

    A group whose candidates also differ in other keys is named by its size and a checksum.
    """
    names = [candidate_name(values) for values in candidates]
    rates = "+".join(name.removeprefix("lr-") for name in names)
    if all(values.keys() == {"learning_rate"} for values in candidates) and len(rates) <= LONGEST_NAME:
        return rates
    return f"{len(candidates)}-{hashlib.sha256('/'.join(names).encode()).hexdigest()[:8]}"


def group_title(name: str) -> str:
    """A group of candidates in words, by its name: `0.001 and 0.0005`, `12 candidates (1a2b3c4d)`."""
    match = re.fullmatch(r"(\d+)-([0-9a-f]{8})", name)
    return f"{match[1]} candidates ({match[2]})" if match else " and ".join(re.split(r"(?<!e)\+", name))  # 1e+16


def languages_name(languages: list[str]) -> str:
    """The path part of a group of languages that one job predicts in: `en+de`.

    File systems allow 255 bytes, so a long group is named by its first and last language and a checksum.
    """
    name = "+".join(languages)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{languages[0]}+{len(languages) - 2}+{languages[-1]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


# Predictions that were made elsewhere have no encoder of the grid. They may have no training set, and no seed.
OUTSIDE = "outside"  # where a path or a table names an encoder
NO_SOURCE = "none"  # where one names a training source
NO_SEED = 0

SHOTS = re.compile(r"(\d+)(\D.*)")  # the part of a source with a few rows of a target language: `16de`


def source_languages(source: str) -> list[str]:
    """The languages of a training source: `en+de` is the union of two training sets; `en+16de` has few rows of `de`."""
    return [part for part in source.split("+") if part != NO_SOURCE and not SHOTS.fullmatch(part)]


def shots_of(source: str) -> tuple[int, str] | None:
    """How many rows of which target language a training source has besides its full training sets; None for none."""
    match = SHOTS.fullmatch(source.split("+")[-1])
    return (int(match[1]), match[2]) if match else None


def with_shots(source: str, shots: int, target: str) -> str:
    """The training source with some rows of a target language: `en+16de`."""
    return f"{source}+{shots}{target}"


def base_source(source: str) -> str:
    """The training source without the rows of a target language."""
    return "+".join(source_languages(source))


def in_other_codes(source: str, codes: Mapping[str, str]) -> str:
    """A language or a training source, with other codes for some languages: `eng_Latn+16deu_Latn` as `en+16de`."""
    parts = [match.groups() if (match := SHOTS.fullmatch(part)) else ("", part) for part in source.split("+")]
    return "+".join(f"{shots}{codes.get(language, language)}" for shots, language in parts)


# The files of another grid's results that a report of several grids reads, besides the units of its models.
OF_OTHER_GRIDS = (
    "scores.csv",
    "runs.csv",
    "shots.csv",
    "oracle.csv",
    "calibration.csv",
    "curves.parquet",
    "provenance.json",
)

ANALYSIS = "analysis"  # the folder of the analysis beside those of the tasks
UNTUNED = "untuned"  # the name of the encoder before tuning, where a path or a table names a model


def model_name(task: str, source: str, arm: str, seed: int | str) -> str:
    """The path part of one tuned model: `pawsx/en/prompt_tuning-16/seed-13`."""
    return f"{task}/{source}/{arm}/seed-{seed}"


def parse_model(name: str) -> tuple[str, str, str, str]:
    """Task, source, arm and seed; the inverse of `model_name`."""
    task, source, arm, seed = name.split("/")
    return task, source, arm, seed.removeprefix("seed-")


def analysis_file(results: str | Path, encoder: str, model: str, file: str) -> Path:
    """A file of the analysis of one model, such as `results/xlm-r/analysis/pawsx/en/lora/seed-13/alignment.csv`."""
    return Path(results, encoder, ANALYSIS, model, file)


def arm_name(method: str, prompt_length: int) -> str:
    """The name of an arm in paths and tables: `fine_tuning`, `prompt_tuning-16`. A prompt length of 0 is omitted."""
    return f"{method}-{prompt_length}" if prompt_length else method


# A job that writes files for several languages has a record, `en+de.json`, and beside it a folder of the same name. The
# group is part of the path, as in `candidate_folder`: after an edit is undone, the files of the earlier job are there.


def vectors_file(record: Path, language: str) -> Path:
    """The vectors of one language, `vectors/en+de/de.safetensors`, from their record `vectors/en+de.json`."""
    return record.parent / record.stem / f"{language}.safetensors"


def predictions_file(record: Path, language: str) -> Path:
    """The predictions in one language, `predictions/en+de/de.parquet`, from their record `predictions/en+de.json`."""
    return record.parent / record.stem / f"{language}.parquet"
