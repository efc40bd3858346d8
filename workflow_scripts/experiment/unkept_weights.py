"""Deletes weights that `keep_weights: false` does not keep and that Snakemake does not delete itself.

Snakemake deletes a temporary output after the last job of the same run that reads it. It leaves models that an earlier
run finished, while the key was `true`, and the candidates of searches, which are no outputs.
"""

import contextlib
import itertools
from collections.abc import Collection, Iterator
from pathlib import Path

from workflow_scripts.core.lineage import Lineage
from workflow_scripts.core.names import candidate_folder, languages_name, shots_of
from workflow_scripts.experiment.configuration import Configuration
from workflow_scripts.experiment.grid import Arm, Grid, Model, Paths
from workflow_scripts.experiment.outdated import outdated

WEIGHTS = "weights.safetensors"


def delete_unkept_weights(configuration: Configuration) -> list[Path]:
    """Delete the weights of finished models and searches that no job needs any more; return their files.

    A model's weights are needed until all its predictions and vectors exist and match the configuration.
    """
    grid, paths = Grid(configuration), Paths.of(configuration)
    dropped = grid.dropped_methods()
    arms = [arm for arm in itertools.chain(grid.arms(), grid.shot_arms()) if arm.method in dropped]
    if not arms:
        return []
    lineage = Lineage(configuration.resources, configuration.results)
    analysed = set(grid.analysed_models())
    differing = {difference.output for difference in outdated(lineage, configuration, with_code=True)}

    def is_made(file: str) -> bool:
        return file not in differing and Path(file).is_file()

    found = []
    for arm in arms:
        runs = {seed: paths.run(*arm.place, seed, "run.json") for seed in configuration.seeds}
        for seed, run in runs.items():
            if all(map(is_made, [run, *_readers(grid, paths, Model(arm.encoder, arm, seed), analysed)])):
                found.append(Path(run).with_name(WEIGHTS))
        own = runs.get(configuration.search.seed)  # the run that links the search's winner
        if not shots_of(arm.source) and is_made(paths.selected(*arm.place)) and (own is None or is_made(own)):
            found += _candidates(grid, paths, arm)
    deleted = [file for file in found if file.is_file()]
    for file in deleted:
        with contextlib.suppress(OSError):  # owned by another user
            file.unlink()
    return deleted


def _readers(grid: Grid, paths: Paths, model: Model, analysed: Collection[Model]) -> Iterator[str]:
    """The outputs that are made from a model's weights."""
    assert model.arm is not None
    for group in grid.tested_groups(model.arm.task, model.arm.source):
        yield paths.predictions(*model.arm.place, model.seed, languages_name(group))
    if model in analysed:
        for group in grid.language_groups(model.arm.task):
            yield paths.vectors(model.encoder, model.name, languages_name(group))


def _candidates(grid: Grid, paths: Paths, arm: Arm) -> Iterator[Path]:
    """The weights of all candidates of an arm's search."""
    for passes, record in zip(grid.search_groups(arm), grid.searches(arm, paths), strict=True):
        for values in itertools.chain.from_iterable(passes):
            yield candidate_folder(Path(record), values) / WEIGHTS
