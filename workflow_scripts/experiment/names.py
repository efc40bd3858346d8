"""Names in paths that rules and steps share. It knows nothing of the grid, so that steps may read it."""

from pathlib import Path

# The environment variable with the methods whose weights are dropped after their predictions. It is no setting of a
# job: whether weights are kept changes no result, so it must rerun nothing.
DROPPED = "CROSSPROMPT_DROPPED"
# That with the version of Snakemake, which steps that run in an environment of their own do not have.
SNAKEMAKE = "CROSSPROMPT_SNAKEMAKE"
# Those with the folders of the configuration, by which `lineage` names files.
RESOURCES, RESULTS = "CROSSPROMPT_RESOURCES", "CROSSPROMPT_RESULTS"


def learning_rate_name(learning_rate: float) -> str:
    """The path part of a learning rate: 0.0001 and 1e-4 are both `0.0001`, 3e-5 is `3e-05`."""
    return repr(float(learning_rate))


def candidate_folder(record: Path, learning_rate: float) -> Path:
    """The run `search/0.001+0.0005/lr-0.001` of a candidate, from the record `search/0.001+0.0005.json` of its group.

    The group is a part of it: the same learning rate may have been a candidate of another group, at other settings.
    """
    return record.parent / record.stem / f"lr-{learning_rate_name(learning_rate)}"


def group_name(learning_rates: list[float]) -> str:
    """The path part of candidates that are trained together: `0.001+0.0005`."""
    return "+".join(map(learning_rate_name, learning_rates))


def parse_group(name: str) -> list[float]:
    """The learning rates of a path part; the inverse of `group_name`."""
    return [float(part) for part in name.split("+")]


def languages_name(languages: list[str]) -> str:
    """The path part of languages that one job predicts in: `en+de`."""
    return "+".join(languages)


def parse_languages(name: str) -> list[str]:
    """The languages of a path part; the inverse of `languages_name`."""
    return name.split("+")


UNTUNED = "untuned"  # the encoder as it was before any tuning, where a path or a table names a model


def model_name(task: str, arm: str, seed: int | str) -> str:
    """The path part of one tuned model: `pawsx/prompt_tuning-16/seed-13`."""
    return f"{task}/{arm}/seed-{seed}"


def parse_model(name: str) -> tuple[str, str, str]:
    """Task, arm and seed of a path part; the inverse of `model_name`."""
    task, arm, seed = name.split("/")
    return task, arm, seed.removeprefix("seed-")


def analysis_file(results: str | Path, encoder: str, model: str, file: str) -> Path:
    """A file of the analysis of one model, such as `results/xlm-r/analysis/pawsx/fine_tuning/seed-13/alignment.csv`."""
    return Path(results, encoder, "analysis", model, file)


def arm_name(method: str, prompt_length: int) -> str:
    """The name of an arm in paths and tables: `fine_tuning`, `prompt_tuning-16`; a prompt length of 0 means none."""
    return f"{method}-{prompt_length}" if prompt_length else method


# A job that writes for several languages has a record, `en+de.json`, and a folder of that name beside it. The languages
# are a part of it, as in `candidate_folder`: an edit that was taken back finds what the earlier job wrote.


def vectors_file(record: Path, language: str) -> Path:
    """The vectors `vectors/en+de/de.safetensors` of one language, from their record `vectors/en+de.json`."""
    return record.parent / record.stem / f"{language}.safetensors"


def predictions_file(record: Path, language: str) -> Path:
    """The predictions `predictions/en+de/de.parquet` in one language, from their record `predictions/en+de.json`."""
    return record.parent / record.stem / f"{language}.parquet"
