"""Write the logs of all trainings of a grid in a form that TensorBoard, trackio or Weights & Biases reads.

    RESULTS/**/log.jsonl, run.json ──> RESULTS/logs/tensorboard/RUN/events.out.tfevents.*   TensorBoard, trackio
                                       RESULTS/logs/wandb/wandb/offline-run-*               Weights & Biases
                                       RESULTS/logs/csv/RUN.csv                             anything else

A run has the name of its folder in RESULTS, such as `e5-small/xnli/en/lora/seed-13`; candidates of a search are runs,
too. Its values have the names that the Hugging Face Trainer uses: `train/loss`, `train/learning_rate`,
`train/grad_norm`, `train/epoch`, `eval/loss` and, for each metric of the task, `eval/accuracy`. Nothing is sent
anywhere.
"""

import argparse
import csv
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import ERROR_PREFIX, UserError
from workflow_scripts.core.files import read_json, written
from workflow_scripts.evaluation.curves import read_log, steps_per_epoch

TRAINING = {"loss": "train/loss", "learning_rate": "train/learning_rate", "gradient_norm": "train/grad_norm"}
INSTALL = ".venv/bin/python -m pip install -r envs/export.txt"
PROJECT = "crossprompt"


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        name: its folder's path within the results.
        settings: of `run.json`, with the learning rate.
        points: the values of each step, by name, in the order of the steps.
        time: when it ended, in seconds since the epoch.
    """

    name: str
    settings: dict[str, Any]
    points: dict[int, dict[str, float]]
    time: float


def find_runs(results: Path) -> Iterator[Run]:
    """Read each finished training of a grid, in order of name. Raises UserError if there is none."""
    records = sorted(file for file in results.rglob("run.json") if file.with_name("log.jsonl").is_file())
    if not records:
        raise UserError(f"{results} holds no finished training (run.json with log.jsonl): name a grid's results folder")
    for file in records:
        yield read_run(results, file)


def read_run(results: Path, file: Path) -> Run:
    """Read one training from its `run.json` and the log beside it."""
    record, log = read_json(file), read_log(file.with_name("log.jsonl"), made_by=file)
    points: dict[int, dict[str, float]] = {}
    for column, name in TRAINING.items():
        for step, value in zip(log["step"].tolist(), log[column].tolist(), strict=True):
            points.setdefault(int(step), {})[name] = value
    for evaluation in record["evaluations"]:
        at = points.setdefault(evaluation["step"], {})
        at["eval/loss"] = evaluation["validation_loss"]
        at |= {f"eval/{name}": value for name, value in evaluation["metrics"].items()}
    for step, values in points.items():
        values["train/epoch"] = step / steps_per_epoch(record)
    settings = {**record["settings"], "learning_rate": record["learning_rate"]}
    name = file.parent.relative_to(results).as_posix()
    return Run(name, settings, dict(sorted(points.items())), file.stat().st_mtime)


def write_tensorboard(run: Run, folder: Path) -> None:
    """Write a run as an event file. All its points have the time of the run's end: the log has no times."""
    writer = library("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder / run.name))
    for step, values in run.points.items():
        for name, value in values.items():
            writer.add_scalar(name, value, step, walltime=run.time)
    writer.close()


def write_wandb(run: Run, folder: Path) -> None:
    """Write a run as an offline run of Weights & Biases, grouped by arm."""
    wandb = library("wandb", "wandb")
    folder.mkdir(parents=True, exist_ok=True)
    arm, _, _ = run.name.partition("/search/")
    group = arm if arm != run.name else arm.rpartition("/")[0]
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True)
    with wandb.init(
        mode="offline",
        project=PROJECT,
        name=run.name,
        group=group,
        config=run.settings,
        dir=str(folder),
        settings=settings,
        reinit="finish_previous",
    ) as made:
        for step, values in run.points.items():
            made.log(values, step=step)


def write_csv(run: Run, folder: Path) -> None:
    """Write a run as a table with a row for each step that has a value."""
    names = list(dict.fromkeys(name for values in run.points.values() for name in values))
    with written(folder / f"{run.name}.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=["step", *names], lineterminator="\n")
        table.writeheader()
        table.writerows({"step": step, **values} for step, values in run.points.items())


def library(module: str, package: str) -> Any:
    """Return an optional module. Raises UserError that says how to install its package."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"--to needs the package {package} ({error}): {INSTALL}") from error


FORMATS: dict[str, tuple[Callable[[Run, Path], None], str]] = {
    "tensorboard": (
        write_tensorboard,
        "tensorboard --logdir {folder}\n"
        "python -c \"import trackio; trackio.import_tf_events('{folder}', project='" + PROJECT + "')\"",
    ),
    "wandb": (write_wandb, "wandb sync {folder}/wandb/offline-run-*"),
    "csv": (write_csv, ""),
}


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("results", type=Path, nargs="?", default=Path("results"), help="a grid's results folder")
    result.add_argument("--to", choices=FORMATS, default="tensorboard", help="the form; default: tensorboard")
    result.add_argument("--output", type=Path, metavar="FOLDER", help="default: RESULTS/logs/FORM")
    return result


def export(results: Path, form: str, folder: Path) -> int:
    """Write every run into a folder; return their number. Raises UserError if the folder is not empty."""
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: delete it, or name another folder with --output")
    write, _ = FORMATS[form]
    runs = 0
    for run in find_runs(results):
        write(run, folder)
        runs += 1
    return runs


def main(arguments: argparse.Namespace) -> None:
    """Write the runs, and print how to read them."""
    folder = arguments.output or arguments.results / "logs" / arguments.to
    runs = export(arguments.results, arguments.to, folder)
    print(f"{runs} runs in {folder}")
    if reading := FORMATS[arguments.to][1]:
        print(reading.format(folder=folder))


if __name__ == "__main__":
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        main(parser().parse_args())
    except UserError as problem:
        sys.exit(f"{ERROR_PREFIX}{problem}")
