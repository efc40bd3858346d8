"""Estimating what a configuration costs on a GPU, without running it: hours, memory and disk space.

    python -m benchmarks.estimate configs/paper.yaml [--gpu h200] [--reached 0.125] [--words 25000]

Each arm's training step is simulated (`benchmarks.simulation`): its model, method, precision, quantisation and
gradient checkpointing are those of the training, with tensors that have no content. So every model and every method,
including PEFT's and your own, is counted by its actual computation. For an encoder this needs `config.json`: from
`resources`, if it is fetched, from its folder, or from `benchmarks/shapes.yaml`.

* Training hours: the operations of all steps, of all candidates and seeds, divided by the speed that is reached.
* Evaluation hours: the forward passes over the validation set after each epoch, and over the test sets of all
  languages.
* Memory: the tensors at the peak of a step whose texts all have `max_length`, for all candidates that share a pass. A
  batch that does not fit is halved automatically.
* Disk: the tuned weights, float32; those of methods whose weights `keep_weights: false` deletes count as none.

The number of rows and their mean length are keys of the task's file (`rows`, `length`), limited as the configuration
says. The lengths are in tokens of XLM-R's vocabulary.
"""

import argparse
import functools
import itertools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.simulation import Step, parameters, simulate
from workflow_scripts.console.costs import Costs, epochs_and_evaluations
from workflow_scripts.core.errors import UserError
from workflow_scripts.experiment.configuration import (
    BundledEncoder,
    Configuration,
    FolderEncoder,
    HubEncoder,
    load_file,
)
from workflow_scripts.experiment.grid import Arm, Grid, Paths
from workflow_scripts.experiment.settings import of_training
from workflow_scripts.tuning.settings import TrainingSettings

SHAPES = Path(__file__).with_name("shapes.yaml")
XLM_R_LARGE = "FacebookAI/xlm-roberta-large"
E5_SMALL = {
    **{"model_type": "bert", "dtype": "float32", "vocab_size": 250037, "hidden_size": 384, "num_hidden_layers": 12},
    **{"num_attention_heads": 12, "intermediate_size": 1536, "max_position_embeddings": 512, "type_vocab_size": 2},
}
# Peak of dense bfloat16 matrix products with float32 accumulation, by NVIDIA's data sheets, in TFLOP/s.
GPUS = {"h200": 989.0, "h100": 989.0, "a100": 312.0, "l40s": 362.0, "l4": 121.0, "rtx4090": 165.0}
REACHED = 0.125
WORDS = 25_000
# Bytes of a checkpoint for each tuned parameter: the parameter, AdamW's two numbers, and the best epoch's value.
CHECKPOINT = 16


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("configuration", type=Path, help="the configuration file")
    result.add_argument("--gpu", choices=GPUS, default="h200", help="the GPU; default: h200")
    result.add_argument(
        "--reached",
        type=float,
        default=REACHED,
        help="the share of its peak that the GPU reaches (MFU). An H200 reached 0.11 in fine-tuning and 0.16 in prompt"
        " tuning of XLM-R-large with 32 texts of 47 tokens, and 0.22 to 0.27 with texts of 128 tokens or with six"
        " candidates together; default: %(default)s",
    )
    result.add_argument(
        "--words",
        type=int,
        default=WORDS,
        help="different tokens in the texts of a job, which keeps no other word embeddings; default: %(default)s",
    )
    result.add_argument(
        "--stopped",
        type=float,
        default=1.0,
        help="the share of its steps that a training with `patience` takes; default: %(default)s, no early stopping",
    )
    return result


@dataclass(frozen=True)
class Cost:
    """What an arm costs.

    Attributes:
        tuned: parameters of a model.
        training, evaluation: operations of all its models.
        memory: bytes on the GPU.
        stored: bytes of all its models.
        step: its simulated step.
    """

    tuned: int
    training: float
    evaluation: float
    memory: int
    stored: float
    step: Step


def main() -> None:
    """Print a line for each encoder, task and arm, the totals, and what they assume."""
    arguments = parser().parse_args()
    configuration = load_file(arguments.configuration)
    grid, costs = Grid(configuration), Costs(configuration)
    speed = arguments.reached * GPUS[arguments.gpu] * 1e12
    found: dict[tuple[str, str, str], list[Cost]] = {}
    for arm in itertools.chain(grid.arms(), grid.shot_arms()):
        cost = cost_of(configuration, grid, costs, arm, arguments.words, arguments.stopped)
        found.setdefault((arm.encoder, arm.task, arm.name), []).append(cost)
    _print_table(found, speed)
    _print_assumptions(configuration, costs, [cost for some in found.values() for cost in some], arguments)


def _print_table(found: dict[tuple[str, str, str], list[Cost]], speed: float) -> None:
    widths = [max(len(key[place]) for key in found) for place in range(3)]
    titles = ("encoder", "task", "arm")
    named = "  ".join(f"{title:{max(width, len(title))}}" for title, width in zip(titles, widths, strict=True))
    print(f"{named}  {'tuned':>13} {'training h':>10} {'evaluation h':>12} {'memory GB':>9} {'stored GB':>9}")
    for key, some in found.items():
        name = "  ".join(f"{part:{max(w, len(t))}}" for part, w, t in zip(key, widths, titles, strict=True))
        print(_line(name, f"{some[0].tuned:,}", some, speed))
    everything = [cost for some in found.values() for cost in some]
    print(_line(f"{'all':{len(named)}}", "", everything, speed))


def _line(name: str, tuned: str, some: list[Cost], speed: float) -> str:
    training, evaluation = (sum(getattr(one, key) for one in some) / speed / 3600 for key in ("training", "evaluation"))
    memory, stored = max(one.memory for one in some) / 1e9, sum(one.stored for one in some) / 1e9
    return f"{name}  {tuned:>13} {training:10.1f} {evaluation:12.1f} {memory:9.1f} {stored:9.2f}"


def _print_assumptions(
    configuration: Configuration, costs: Costs, everything: list[Cost], arguments: argparse.Namespace
) -> None:
    checkpoint = max(CHECKPOINT * cost.tuned for cost in everything) / 1e9
    host = max(cost.step.weights for cost in everything) / 1e9
    encoders = sum(encoder_bytes(configuration, encoder) for encoder in configuration.encoders) / 1e9
    peak, gpu = GPUS[arguments.gpu], arguments.gpu.upper()
    print(
        f"\nAssumed: {arguments.reached:.1%} (MFU) of the {peak:.0f} TFLOP/s of one {gpu} in bfloat16, and"
        f" {arguments.words:,} different tokens in the texts of a job. Add a minute for each job.\n"
        "Memory: tensors alone; add 1 GB for CUDA and a tenth for fragmentation."
        f" A job needs {host:.1f} GB of host memory for the largest model, and 3 GB besides.\n"
        f"Disk, besides: {encoders:.1f} GB for the encoders, corpora and tokens, and up to {checkpoint:.1f} GB for the"
        " checkpoint of each running training."
    )
    if costs.guessed:
        print(f"Guessed, because the task's file does not say: the sizes of {', '.join(sorted(costs.guessed))}")


def cost_of(configuration: Configuration, grid: Grid, costs: Costs, arm: Arm, words: int, stopped: float = 1.0) -> Cost:
    """Return the cost of an arm. Raises UserError if the size of its encoder is unknown."""
    training, choices = configuration.training_of(arm.task, arm.method), choices_of(configuration, arm.task)
    at_once = min(training.micro_batch_size or training.batch_size * choices, training.batch_size * choices)
    together = max((len(one) for passes in grid.search_groups(arm) for one in passes), default=1)
    settings = TrainingSettings.read(of_training(configuration, arm, configuration.seeds[0]), f"tasks.{arm.task}")
    longest = max(configuration.searched(arm.task, arm.method).get("prompt_length", [arm.prompt_length]))
    settings = settings.changed(prompt_length=longest)
    trains = configuration.method(arm.method).trains
    if settings.answers == "words":  # costs about as much as a head: the output layer reads few positions
        probe = {} if trains else {"method": "linear_probe"}
        settings = settings.changed(answers="head", sentence_vector=training.sentence_vector, **probe)
    step = step_of(as_config(configuration, arm.encoder), settings, at_once, together, words)
    rows, validation = costs.training_rows(arm), costs.training_rows(arm, "validation")
    models = stopped * trainings(grid, arm) if training.patience else trainings(grid, arm)
    epochs, evaluations = epochs_and_evaluations(training, rows) if trains else (0, 0)
    steps = math.ceil(rows.count / training.batch_size)
    # The last batch of an epoch is smaller, but is counted as a full one.
    trained = models * epochs * steps * training.batch_size * rows.length
    read = models * evaluations * validation.tokens
    tested = [costs.rows(arm.task, language, "test") for language in grid.tested(arm.task, arm.source)]

    def length(mean: float) -> float:
        return mean / choices + longest

    evaluation = read * step.of_token(step.forward, length(validation.length))
    evaluation += len(configuration.seeds) * sum(
        one.tokens * step.of_token(step.forward, length(one.length)) for one in tested
    )
    return Cost(
        tuned=step.tuned if trains else 0,
        training=trained * step.of_token(step.whole, length(rows.length)),
        evaluation=evaluation,
        memory=step.peak,
        stored=models_of(grid, arm) * step.stored if trains and arm.method not in grid.dropped_methods() else 0,
        step=step,
    )


def choices_of(configuration: Configuration, task: str) -> int:
    """Return how many texts a row has: one for each of several choices."""
    columns: Iterable[Any] = configuration.source_of(task).columns.values()
    return max((len(column) for column in columns if isinstance(column, list)), default=1)


def step_of(config: dict[str, Any], settings: TrainingSettings, texts: int, together: int, words: int | None) -> Step:
    """Return the simulated step of a training; equal ones are simulated once."""
    without = settings.changed(source="en", shots=None, union=None, seed=0, epochs=1, warmup=0.0, code="")
    return _step(json.dumps(config, sort_keys=True), without.as_text(), texts, together, words)


@functools.cache
def _step(config: str, settings: str, texts: int, together: int, words: int | None) -> Step:
    chosen = TrainingSettings.parsed(settings)
    return simulate(of_config(json.loads(config)), chosen, texts, chosen.max_length, together, words)


def of_config(values: dict[str, Any]) -> Callable[[], Any]:
    """Return a function that makes a configuration of transformers of the content of config.json."""
    from transformers import AutoConfig

    keys = {key: value for key, value in values.items() if key not in ("model_type", "auto_map")}
    return lambda: AutoConfig.for_model(values["model_type"], **keys)


def published_shape(repository: str) -> Callable[[], Any]:
    """Return a function that makes the configuration of a repository in `shapes.yaml`."""
    return of_config(yaml.safe_load(SHAPES.read_text(encoding="utf-8"))[repository])


def as_config(configuration: Configuration, encoder: str) -> dict[str, Any]:
    """Return the content of an encoder's config.json, without the layers that the configuration leaves out.

    Raises UserError if the encoder is not fetched, is in no folder and its repository is not in `shapes.yaml`.
    """
    source = configuration.encoders[encoder]
    files = [Path(Paths.of(configuration).encoder(encoder)).with_name("config.json")]
    if isinstance(source, FolderEncoder):
        files.append(Path(source.path) / "config.json")
    config = next((json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()), None)
    if config is None and isinstance(source, BundledEncoder):
        config = dict(E5_SMALL)
    if config is None:
        shapes = yaml.safe_load(SHAPES.read_text(encoding="utf-8"))
        # A folder is named after its repository, as in configs/encoders_today.yaml.
        by_name = {name.partition("/")[2].lower(): shape for name, shape in shapes.items()}
        if isinstance(source, HubEncoder):
            config = shapes.get(source.repository)
        elif isinstance(source, FolderEncoder):
            config = by_name.get(Path(source.path).name.lower())
    if config is None:
        raise UserError(
            f"encoders.{encoder}: nothing says how large it is: let the workflow fetch it first, or add its"
            " config.json to benchmarks/shapes.yaml"
        )
    if source.layers is not None:
        config["num_hidden_layers"] = source.layers
        config.pop("layer_types", None)
    return dict(config)


def encoder_bytes(configuration: Configuration, encoder: str) -> float:
    """Return the bytes of an encoder's stored weights, with an output layer that is not the word embeddings."""
    values = as_config(configuration, encoder)
    config = of_config(values)()
    separate = not getattr(config, "tie_word_embeddings", True)
    size = {"float32": 4, "float16": 2, "bfloat16": 2}[values.get("dtype") or values.get("torch_dtype") or "float32"]
    return size * (parameters(config) + separate * config.vocab_size * config.hidden_size)


def trainings(grid: Grid, arm: Arm) -> float:
    """Return how many whole trainings an arm is worth: one per seed, and those of the search besides the winner's."""
    search = sum(map(grid.trainings_of_search, grid.search_groups(arm)))
    return len(grid.configuration.seeds) + search - _search_seed_is_used(grid, arm)


def models_of(grid: Grid, arm: Arm) -> int:
    """Return the number of models that an arm tunes: one per seed, and the candidates that lost the search."""
    searched = len(grid.candidates(arm)) if grid.is_searched(arm) else 0
    return len(grid.configuration.seeds) + searched - _search_seed_is_used(grid, arm)


def _search_seed_is_used(grid: Grid, arm: Arm) -> bool:
    return grid.is_searched(arm) and grid.configuration.search.seed in grid.configuration.seeds


if __name__ == "__main__":
    main()
