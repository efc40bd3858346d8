"""Export the scores of a finished grid as records of Every Eval Ever, a shared format for evaluation results.

    results/results.parquet, provenance.json  ──> results/every_eval_ever/UUID.json   one record for each arm and task

    python -m workflow_scripts.console.every_eval_ever --results results/my_grid --organisation "My university"

A record follows version 0.3.0 of the schema at github.com/evaleval/every_eval_ever. It has one result for each
language, metric and seed. No score is averaged, so that readers choose how. The same grid gives the same files.
"""

import argparse
import datetime
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json, write_json
from workflow_scripts.core.names import arm_name
from workflow_scripts.core.step import run, step_parser
from workflow_scripts.kinds import part

SCHEMA_VERSION = "0.3.0"
FOLDER = "every_eval_ever"
ARM = ["encoder", "task", "source", "shots", "method", "prompt_length"]
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json")
SETTINGS = ["learning_rate", "epochs", "batch_size", "max_length", "keep", "answers", "quantise", "tuned_parameters"]
RELATIONSHIPS = ["first_party", "third_party", "collaborative", "other"]
Record = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__)
    result.add_argument("--results", type=Path, default=Path("results"), help="the grid's folder of results")
    result.add_argument("--organisation", default="unknown", help="who evaluated the models")
    result.add_argument(
        "--relationship", choices=RELATIONSHIPS, default="first_party", help="of the evaluator to the tuned models"
    )
    return result


def main(arguments: argparse.Namespace) -> None:
    """Write the records, and delete those of an earlier export. Raises UserError if the grid is not finished."""
    file = arguments.results / "results.parquet"
    if not file.is_file():
        raise UserError(f"{file} is missing: finish the run, or name the grid's results with --results")
    source = {
        "source_name": "crossprompt",
        "source_type": "evaluation_run",
        "source_organization_name": arguments.organisation,
    }
    folder = arguments.results / FOLDER
    written = set()
    for record in records(pd.read_parquet(file), read_json(arguments.results / "provenance.json")):
        elsewhere = record.pop("made_elsewhere")
        relationship = "other" if elsewhere else arguments.relationship
        record["source_metadata"] = source | {"evaluator_relationship": relationship}
        name = f"{uuid.uuid5(uuid.NAMESPACE_URL, record['evaluation_id'])}.json"
        write_json(folder / name, record)
        written.add(name)
    for old in folder.glob("*.json"):
        if UUID.fullmatch(old.name) and old.name not in written:
            old.unlink()
    print(f"{len(written)} records in {folder}")


def records(scores: pd.DataFrame, provenance: Mapping[str, Any]) -> Iterator[Record]:
    """The record of each arm and task, with a key `made_elsewhere` beside those of the schema."""
    rows = {(one["task"], one["language"]): one for one in provenance["corpora"] if one["split"] == "test"}
    date = datetime.datetime.fromisoformat(provenance["date"])
    for key, of_arm in scores.groupby(ARM, sort=False):
        first = dict(zip(ARM, key, strict=True))
        model = _model(first, of_arm.iloc[0], provenance)
        yield {
            "schema_version": SCHEMA_VERSION,
            "evaluation_id": f"{first['task']}/{model['id']}/{date.timestamp():.0f}",
            "evaluation_timestamp": provenance["date"],
            "retrieved_timestamp": f"{date.timestamp():.0f}",
            "eval_library": {"name": "crossprompt", "version": provenance.get("git_commit") or "unknown"},
            "model_info": model,
            "evaluation_results": [
                _result(row, rows[row["task"], row["language"]], provenance) for row in of_arm.to_dict("records")
            ],
            "made_elsewhere": bool(of_arm["made_elsewhere"].iloc[0]),
        }


def _model(arm: Mapping[str, Any], row: pd.Series, provenance: Mapping[str, Any]) -> Record:
    """The tuned model of an arm, or the one whose predictions were made elsewhere."""
    name = arm_name(arm["method"], arm["prompt_length"])
    details = {"deployment_type": "unknown", "model_availability": "unknown", "made_elsewhere": "true"}
    if row["made_elsewhere"]:
        own = provenance["configuration"]["arms"][arm["method"]]
        return {"name": own.get("title") or name, "id": name, "additional_details": details}
    encoder = provenance["configuration"]["encoders"][arm["encoder"]]
    tuned_on = arm["source"] + (f" and {arm['shots']} rows of {row['language']}" if arm["shots"] else "")
    few = f"-{arm['shots']}{row['language']}" if arm["shots"] else ""
    details = {
        "deployment_type": "self_deployed",
        "model_availability": "open_weights" if encoder["source"] == "hub" else "unknown",
        "base_model": encoder.get("repository") or arm["encoder"],
        "method": arm["method"],
        "prompt_length": str(arm["prompt_length"]),
        "tuned_on_task": arm["task"],
        "tuned_on_languages": tuned_on,
        **{
            setting: f"{row[setting]:g}" if isinstance(row[setting], float) else str(row[setting])
            for setting in SETTINGS
            if pd.notna(row[setting])
        },
    }
    return {
        "name": f"{arm['encoder']}, {name}, tuned on {tuned_on}",
        "id": f"crossprompt/{arm['encoder']}-{name}-{arm['task']}-{arm['source']}{few}",
        "inference_engine": {"name": "transformers", "version": str(provenance["versions"].get("transformers"))},
        "additional_details": details,
    }


def _result(row: Mapping[str, Any], corpus: Mapping[str, Any], provenance: Mapping[str, Any]) -> Record:
    """One score: a language, metric and seed."""
    seed = None if pd.isna(row["seed"]) else int(row["seed"])
    metric = next(one for one in part(row["kind"], "facts").METRICS if one.name == row["metric"])
    return {
        "evaluation_result_id": "/".join(
            [row["task"], row["language"], row["metric"], *([] if seed is None else [f"seed-{seed}"])]
        ),
        "evaluation_name": f"{row['task_title']}, {row['language_name']}",
        "source_data": _source_data(row, corpus),
        "evaluation_timestamp": provenance["date"],
        "metric_config": {
            "metric_id": row["metric"],
            "metric_name": metric.title,
            "metric_kind": row["metric"],
            "metric_unit": row["unit"],
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": metric.low,
            "max_score": 100.0,
        },
        "score_details": {
            "score": row["value"],
            "details": {"language": row["language"], **({} if seed is None else {"seed": str(seed)})},
        },
    }


def _source_data(row: Mapping[str, Any], corpus: Mapping[str, Any]) -> Record:
    """The test set: a repository of the Hugging Face Hub, or else its name with the checksum of the rows."""
    origin = corpus.get("origin") or {}
    details = {"language": row["language"], "rows": str(corpus["rows"]), "rows_sha256": corpus["rows_sha256"]}
    files = origin.get("files") or []
    if files and files[0].get("revision") and "/" in origin["name"]:
        return {
            "dataset_name": row["task_title"],
            "source_type": "hf_dataset",
            "hf_repo": origin["name"],
            "hf_split": "test",
            "samples_number": corpus["rows"],
            "additional_details": details | {"revision": files[0]["revision"]},
        }
    return {"dataset_name": row["task_title"], "source_type": "other", "additional_details": details}


if __name__ == "__main__":
    run(main, parser())
