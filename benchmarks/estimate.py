"""Estimating the cost of a configuration on a GPU: hours and disk space by method and task, without running it.

    python -m benchmarks.estimate configs/paper.yaml [--tflops 125]

A step's time is its number of floating-point operations divided by a given speed:

* A forward pass takes 2 operations per token and parameter outside the embeddings, and 4 x tokens x width per token and
  layer for attention. The backward pass takes as many with respect to the activations, and again as many with respect
  to the weights. So fine-tuning costs 3 forward passes per step, and methods that leave the encoder frozen cost 2.
* Candidates that are searched together share a step, whose operations grow with their number.
* `--tflops` is the speed that the GPU reaches. An H200 reached 111 in fine-tuning and 154 in prompt tuning with 32
  texts of 47 tokens on average, and 216 to 267 with texts of 128 tokens or with six candidates together. The default is
  125.

The estimate assumes XLM-R-large. The number of rows and their mean length are keys of the task's file (`rows`,
`length`), limited as the configuration says. Prediction, validation and process start-up are not included: add 10 % and
one minute per job.
"""

import argparse
import itertools
import math
from pathlib import Path

from workflow_scripts.console.costs import Costs, Rows, Size
from workflow_scripts.experiment.catalogue import METHODS
from workflow_scripts.experiment.configuration import load_file
from workflow_scripts.experiment.grid import Arm, Grid

XLM_R_LARGE, PARAMETERS = Size(24, 1024), 560e6  # Conneau et al. 2020; PARAMETERS: with the embeddings
BYTES = 4  # per parameter: weights are stored in float32


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("configuration", type=Path, help="the configuration file")
    result.add_argument("--tflops", type=float, default=125.0, help="the speed that the GPU reaches; default: 125")
    return result


def main() -> None:
    """Print a line for each task and method, and the total."""
    arguments = parser().parse_args()
    configuration = load_file(arguments.configuration)
    grid, costs = Grid(configuration), Costs(configuration)
    hours: dict[tuple[str, str], float] = {}
    gigabytes: dict[tuple[str, str], float] = {}
    for arm in itertools.chain(grid.arms(), grid.shot_arms()):
        key = arm.task, arm.method
        arm_hours = hours_of(grid, arm, costs.training_rows(arm), arguments.tflops * 1e12)
        hours[key] = hours.get(key, 0.0) + arm_hours
        gigabytes[key] = gigabytes.get(key, 0.0) + trainings(grid, arm) * weights_bytes(arm) / 1e9
    print(f"{'task':12} {'method':19} {'GPU hours':>9} {'GB of weights':>13}")
    for key, value in hours.items():
        print(f"{key[0]:12} {key[1]:19} {value:9.1f} {gigabytes[key]:13.2f}")
    print(f"{'all':32} {sum(hours.values()):9.1f} {sum(gigabytes.values()):13.2f}")
    if costs.guessed:
        print(f"Guessed, because the task's file does not say: the sizes of {', '.join(sorted(costs.guessed))}")


def trainings(grid: Grid, arm: Arm) -> int:
    """Return the number of models that an arm tunes: one per seed, and the candidates that lost the search."""
    return len(grid.configuration.seeds) + len(grid.learning_rates(arm)) - 1 + (not _search_seed_is_used(grid, arm))


def _search_seed_is_used(grid: Grid, arm: Arm) -> bool:
    return not grid.is_searched(arm) or grid.configuration.search.seed in grid.configuration.seeds


def hours_of(grid: Grid, arm: Arm, rows: Rows, speed: float) -> float:
    """Return the hours of an arm's trainings on these rows, including the search; `speed` in operations per second."""
    training = grid.configuration.training_of(arm.task, arm.method)
    steps = training.epochs * math.ceil(rows.count / training.batch_size)
    arithmetic = step_operations(arm, training.batch_size, rows.length) / speed
    return trainings(grid, arm) * steps * arithmetic / 3600


def step_operations(arm: Arm, batch: int, tokens: float) -> float:
    """Return the floating-point operations of one training step of one model."""
    forward = XLM_R_LARGE.forward(batch * tokens, tokens + arm.prompt_length)
    return forward * (3 if _stores_encoder(arm) else 2)


def weights_bytes(arm: Arm) -> float:
    """Return the stored bytes of one tuned model: the whole encoder, or the prompts of every layer.

    The weights of LoRA and BitFit, a few megabytes, count as none.
    """
    prompts = 2 * XLM_R_LARGE.layers * XLM_R_LARGE.width * arm.prompt_length
    return BYTES * (PARAMETERS if _stores_encoder(arm) else prompts)


def _stores_encoder(arm: Arm) -> bool:
    """Whether a method tunes the whole encoder; of the user's own methods nothing is known, so they count as that."""
    return arm.method not in METHODS or METHODS[arm.method].stores_encoder


if __name__ == "__main__":
    main()
