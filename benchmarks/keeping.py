"""Which weights of a training to keep: the best evaluation's, the last ones, or an average.

    python -m benchmarks.keeping my_grid.yaml [--averaged 3]

For each arm with one learning rate, every seed is trained once with all evaluations' weights, and each rule of
`training.keep` chooses from them. The table has, for each rule, the mean over the seeds and the standard deviation
between seeds of the score in the training language, and of the average over the other test languages (main metric,
percent, test sets). Run the tokens first: `snakemake --configfile my_grid.yaml --until tokenise`.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from workflow_scripts.core.names import source_languages
from workflow_scripts.corpora.schema import read_rows
from workflow_scripts.evaluation.metrics import score
from workflow_scripts.experiment.configuration import load_file
from workflow_scripts.experiment.grid import Arm, Grid, Paths
from workflow_scripts.experiment.settings import of_training
from workflow_scripts.kinds.tokens import read_tokens
from workflow_scripts.tuning.loop import average, kept_evaluations
from workflow_scripts.tuning.model import restore
from workflow_scripts.tuning.predict import evaluate
from workflow_scripts.tuning.runs import Material, Pass, Places, Run, resolve_precision
from workflow_scripts.tuning.settings import TrainingSettings

RULES = ("best_metric", "best_loss", "last", "average", "average_best")


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("configuration", type=Path, help="a grid whose tokens are on this machine")
    result.add_argument("--averaged", type=int, default=3, help="evaluations in an average; default: %(default)s")
    return result


def main() -> None:
    """Train, choose, evaluate, and print a line for each arm and rule."""
    arguments = parser().parse_args()
    configuration = load_file(arguments.configuration)
    grid, paths = Grid(configuration), Paths.of(configuration)
    print(f"{'arm':34} {'keep':14} {'source':>8} {'±':>6} {'transfer':>9} {'±':>6}", flush=True)
    for arm in grid.arms():
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for seed in configuration.seeds:
            values = of_training(configuration, arm, seed)
            settings = TrainingSettings.read(values, "configuration").changed(keep="average", averaged=10**6)
            for rule, source, transfer in scores(grid, paths, arm, settings, arguments.averaged):
                found[rule].append((source, transfer))
        for rule, pairs in found.items():
            (source, transfer), (one, other) = np.mean(pairs, axis=0), np.std(pairs, axis=0, ddof=1)
            name = f"{arm.task} {arm.name}"
            print(f"{name:34} {rule:14} {source:8.2f} {one:6.2f} {transfer:9.2f} {other:6.2f}", flush=True)


def scores(
    grid: Grid, paths: Paths, arm: Arm, settings: TrainingSettings, averaged: int
) -> Iterator[tuple[str, float, float]]:
    """Train a model; yield each rule with the score in the training language and the mean over the others."""
    languages = grid.languages(arm.task)

    def tokens(language: str, split: str) -> Path:
        return Path(paths.tokens(arm.encoder, arm.task, language, split, settings.answers))

    sources = source_languages(arm.source)
    files = argparse.Namespace(
        encoder=Path(paths.encoder(arm.encoder)),
        train=[tokens(language, "train") for language in sources],
        validation=[tokens(language, "validation") for language in sources],
        validation_rows=[Path(paths.corpus(arm.task, language, "validation")) for language in sources],
        oracle=[],
        oracle_rows=[],
    )
    material = Material.read(files, settings)
    tests = {
        language: (
            read_tokens(tokens(language, "test")),
            read_rows(Path(paths.corpus(arm.task, language, "test")), settings.kind),
        )
        for language in languages
    }
    with tempfile.TemporaryDirectory() as folder:
        (candidate,) = grid.candidates(arm)
        training = Pass(material, settings, [Run(candidate, Path(folder))], Places(Path(folder), every=1e9))
        resolve_precision([training], material.device)
        training.train()
    (outcome,) = training.trained.outcomes
    for rule in RULES:
        kept = kept_evaluations(outcome.evaluations, rule, averaged)
        weights = average([outcome.snapshots[one.step] for one in kept])
        model = restore(material.folder, training.settings, weights).to(material.device)
        by_language = {}
        for language, (texts, rows) in tests.items():
            predictions, _ = evaluate(model, texts, rows, training.settings, material.device)
            metrics = score(settings.kind, rows, predictions, training.settings.scoring(language))
            by_language[language] = next(iter(metrics.values()))
        others = [value for language, value in by_language.items() if language not in sources]
        yield rule, float(np.mean([by_language[language] for language in sources])), float(np.mean(others))


if __name__ == "__main__":
    main()
