"""Training curves: what a run logged while it was trained, as rows of one tidy table, thinned for a page.

log.jsonl   training loss, learning rate and gradient norm, one line for every few steps
run.json    evaluations on the validation set: loss and metrics
    ──> step, epoch, quantity, value, kept
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from workflow_scripts.core.errors import UserError

POINTS = 200  # maximum points of a curve: more than a small chart has pixels

# The columns of log.jsonl, and the quantity of each one in the table.
LOGGED = {"loss": "training_loss", "learning_rate": "learning_rate", "gradient_norm": "gradient_norm"}
VALIDATION_LOSS = "validation_loss"
METRIC = "validation_{}"  # the quantity of a metric on the validation set, in percent

Log = dict[str, np.ndarray]


def read_log(path: Path, made_by: Path | None = None) -> Log:
    """Return the columns of a `log.jsonl`: `step` and those of `LOGGED`, each of one value per line.

    Args:
        path: the log; empty if its method trains nothing.
        made_by: the file to delete so that the workflow writes the log again; by default the log.

    Raises UserError that names the file if it is missing or damaged.
    """
    schema = pa.schema([("step", pa.int64()), *((name, pa.float64()) for name in LOGGED)])
    remedy = f"delete {made_by or 'it'} and run the workflow again"
    try:
        if not path.stat().st_size:
            return {name: np.empty(0) for name in schema.names}
        options = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        table = pa.json.read_json(path, pa.json.ReadOptions(use_threads=False), options)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {remedy}") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): {remedy}") from error
    absent = [name for name in schema.names if table[name].null_count]
    if absent:
        raise UserError(f"{path} is damaged (a line lacks {' and '.join(absent)}): {remedy}")
    return {name: table[name].to_numpy() for name in schema.names}


def thinned(log: Log, most: int = POINTS) -> Log:
    """Return a log of at most `most` lines, each for a group of consecutive lines, at the last step of the group.

    A group has the mean of its losses and, so that no peak is lost, the largest of its gradient norms.
    """
    lines = len(log["step"])
    if lines <= most:
        return log
    starts = np.linspace(0, lines, most, endpoint=False).astype(int)
    ends = np.append(starts[1:], lines)
    return {
        "step": log["step"][ends - 1],
        "loss": np.add.reduceat(log["loss"], starts) / (ends - starts),
        "learning_rate": log["learning_rate"][ends - 1],
        "gradient_norm": np.maximum.reduceat(log["gradient_norm"], starts),
    }


def curve_rows(log: Log, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the points of all curves of a run, curve by curve: `step`, `epoch`, `quantity`, `value`, `kept`.

    `epoch` is the number of passes over the training set, `kept` whether the run's weights are those of this
    evaluation, or an average with them. Quantities are those of `LOGGED`, `VALIDATION_LOSS` and, for each metric,
    `METRIC`.

    Args:
        log: from `read_log`.
        record: the run's `run.json`.
    """
    evaluations = record["evaluations"]
    if not len(log["step"]):
        return  # its method trains nothing
    steps_an_epoch = steps_per_epoch(record)
    few = thinned(log)
    for column, quantity in LOGGED.items():
        for step, value in zip(few["step"].tolist(), few[column].tolist(), strict=True):
            yield point(step, step / steps_an_epoch, quantity, value)
    kept = [evaluation["step"] in record["kept"] for evaluation in evaluations]
    quantities = {VALIDATION_LOSS: [evaluation["validation_loss"] for evaluation in evaluations]}
    for name in evaluations[0]["metrics"] if evaluations else ():
        quantities[METRIC.format(name)] = [evaluation["metrics"][name] for evaluation in evaluations]
    for quantity, values in quantities.items():
        for evaluation, value, chosen in zip(evaluations, values, kept, strict=True):
            yield point(evaluation["step"], evaluation["epoch"], quantity, value, chosen)


def point(step: int, epoch: float, quantity: str, value: float, kept: bool = False) -> dict[str, Any]:
    """Return one point of a curve."""
    return {"step": step, "epoch": epoch, "quantity": quantity, "value": value, "kept": kept}


def steps_per_epoch(record: Mapping[str, Any]) -> float:
    """Return the optimizer steps of one pass over the training set, from a `run.json`."""
    return float(record["steps"] / record["epochs"])
