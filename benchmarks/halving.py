"""What halving and early stopping would have changed in full searches.

    python -m benchmarks.halving my_grid.yaml [...] [--factor 3] [--rungs 0.1 0.3] [--patience 3]

The candidates' evaluations are replayed by the code of the training: a candidate that stays in a search trains exactly
as without halving, except for dropout masks where candidates share a pass. For each search the table has

* steps: those of all candidates, in percent of the full search's;
* winner: the candidate that the shorter search chooses, and the full search's;
* loss: the validation score that the shorter search gives up, and the standard error of the full winner's score
  (binomial, over the rows of the validation set).

Run the searches first: `snakemake --configfile my_grid.yaml --until select`.
"""

import argparse
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from workflow_scripts.core.files import read_json
from workflow_scripts.core.names import candidate_name, source_languages
from workflow_scripts.experiment.configuration import load_file
from workflow_scripts.experiment.grid import Arm, Grid, Paths
from workflow_scripts.experiment.sections import Search
from workflow_scripts.tuning.loop import Evaluation, Outcome, evaluations_since_gain, kept_evaluations, standing
from workflow_scripts.tuning.settings import TrainingSettings


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("configurations", type=Path, nargs="+", help="grids whose searches were run without halving")
    result.add_argument("--factor", type=int, default=3, help="as `search.halving`; default: %(default)s")
    rungs = Search.model_fields["rungs"].default
    result.add_argument("--rungs", type=float, nargs="*", default=rungs, help="default: %(default)s; none if empty")
    result.add_argument("--patience", type=int, help="as `training.patience`; default: none")
    return result


@dataclass
class Replayed:
    """A candidate of a full search, and how far it would have been trained."""

    name: str
    rate: float
    settings: TrainingSettings
    outcome: Outcome
    steps: int
    taken: int

    def value(self, until: int | None = None) -> float:
        """The main metric of the weights that are kept after some steps; of all by default."""
        return standing(self.outcome, self.settings, self.steps if until is None else until)[1]


def main() -> None:
    """Print a line for each search, and the totals."""
    arguments = parser().parse_args()
    print(f"{'search':40} {'steps':>6} {'winner':>12} {'full':>12} {'loss':>6} {'error':>6}")
    rows: list[tuple[float, bool, bool]] = []
    for file in arguments.configurations:
        configuration = load_file(file)
        grid, paths = Grid(configuration), Paths.of(configuration)
        searches: dict[Arm, list[Replayed]] = defaultdict(list)
        for arm, _, run in grid.search_runs(paths, "run.json"):
            if Path(run).is_file():
                searches[arm].append(read(read_json(Path(run)), arguments.patience))
        for arm, candidates in searches.items():
            full = best(candidates, lambda one: one.value())
            whole = sum(one.steps for one in candidates)
            stayed = halved(candidates, arguments.factor, arguments.rungs)
            chosen = best(stayed, lambda one: one.value(one.taken))
            corpora = [paths.corpus(arm.task, code, "validation") for code in source_languages(arm.source)]
            count = sum(pq.read_metadata(corpus).num_rows for corpus in corpora)
            error = math.sqrt(max(full.value() * (100 - full.value()), 0) / count)
            loss = full.value() - chosen.value(chosen.taken)
            share = sum(one.taken for one in candidates) / whole
            name = f"{arm.task} {arm.name} seed {configuration.search.seed}"
            print(f"{name:40} {share:6.1%} {chosen.name:>12} {full.name:>12} {loss:6.2f} {error:6.2f}")
            rows.append((share, chosen is full, loss <= error))
    if rows:
        shares, same, within = zip(*rows, strict=True)
        print(f"\n{len(rows)} searches: {sum(shares) / len(rows):.1%} of the steps, the same winner in {sum(same)},")
        print(f"a winner within a standard error in {sum(within)}")


def read(record: dict[str, Any], patience: int | None) -> Replayed:
    """Return a finished candidate, trained as far as `patience` allows."""
    settings = TrainingSettings.read(record["settings"], "run.json")
    evaluations = [Evaluation(**one) for one in record["evaluations"]]
    taken = record["steps"]
    for count, one in enumerate(evaluations, start=1):
        if patience is not None and evaluations_since_gain(evaluations[:count], settings.keep) >= patience:
            taken = one.step
            break
    outcome = Outcome(evaluations=evaluations, diverged=record["diverged"])
    assert kept_evaluations(evaluations, settings.keep, settings.averaged) or record["diverged"]
    name = candidate_name(record["candidate"])
    return Replayed(name, record["learning_rate"], settings, outcome, record["steps"], taken)


def halved(candidates: list[Replayed], factor: int, rungs: list[float]) -> list[Replayed]:
    """Return the candidates that stay to the end; shortens the others, as `runs.halve` does."""
    stayed = candidates
    for share in rungs:

        def step_of(one: Replayed, share: float = share) -> int:
            points = [evaluation.step for evaluation in one.outcome.evaluations]
            return next((step for step in points if step >= round(share * one.steps, 6)), one.steps)

        ranked = sorted(stayed, key=lambda one: standing(one.outcome, one.settings, step_of(one)), reverse=True)
        stayed = ranked[: math.ceil(len(stayed) / factor)]
        for one in ranked[len(stayed) :]:
            one.taken = min(one.taken, step_of(one))
    return stayed


def best(candidates: list[Replayed], value: Any) -> Replayed:
    """Return the winner, as `select` chooses it."""
    return max(candidates, key=lambda one: (not one.outcome.diverged, value(one), -one.rate))


if __name__ == "__main__":
    main()
