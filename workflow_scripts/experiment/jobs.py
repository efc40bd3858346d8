"""Every job of a configuration with its declared outputs and its settings, the same as in the rules.

`tests/test_consistency.py` compares this list with the jobs that Snakemake ran.
"""

import itertools
from collections.abc import Iterator

from workflow_scripts.core.names import languages_name
from workflow_scripts.experiment import settings
from workflow_scripts.experiment.configuration import Configuration
from workflow_scripts.experiment.consistency import Job
from workflow_scripts.experiment.grid import Grid, Paths


def all_jobs(configuration: Configuration) -> Iterator[Job]:
    """Every job, each after the jobs that it depends on."""
    yield from resource_jobs(configuration)
    yield from tuning_jobs(configuration)
    yield from outside_jobs(configuration)
    yield from analysis_jobs(configuration)
    yield from summary_jobs(configuration)


def resource_jobs(configuration: Configuration) -> Iterator[Job]:
    """Encoders, corpora and tokens."""
    grid, paths = Grid(configuration), Paths.of(configuration)
    for encoder in configuration.encoders:
        yield Job("fetch_encoder", (paths.encoder(encoder),), settings.of_encoder(configuration, encoder))
    corpora = list(grid.corpora())
    repositories = {grid.repository(*part): None for part in corpora}
    for repository in filter(None, repositories):
        of_repository = settings.of_repository(configuration, repository)
        yield Job("pin_repository", (paths.repository(repository),), of_repository)
    for part in corpora:
        yield Job("fetch_corpus", (paths.corpus(*part),), settings.of_corpus(configuration, *part))
    for encoder, task, language, split, answers in grid.tokens():
        of_tokens = settings.of_tokens(configuration, task, split, answers)
        yield Job("tokenise", (paths.tokens(encoder, task, language, split, answers),), of_tokens)


def tuning_jobs(configuration: Configuration) -> Iterator[Job]:
    """The check of parallel test sets, searches, selections, runs, predictions, scores and the best possible scores."""
    grid, paths = Grid(configuration), Paths.of(configuration)
    for task in grid.parallel_tasks():
        yield Job("check_parallel", (paths.parallel(task),), settings.of_parallel(configuration, task))
    for _, task, ceilings in grid.bounded(paths):
        yield Job("bound", (ceilings,), settings.of_bounds(configuration, task))
    for arm in grid.arms():
        if grid.is_searched(arm):
            for passes, record in zip(grid.search_groups(arm), grid.searches(arm, paths), strict=True):
                yield Job("search", (record,), settings.of_search(configuration, arm, passes))
        yield Job("select", (paths.selected(*arm.place),), settings.of_selection(configuration, arm))
    for arm in itertools.chain(grid.arms(), grid.shot_arms()):
        place = arm.place
        groups, answers = grid.tested_groups(arm.task, arm.source), grid.answers_of(arm.task, arm.method)
        of_scores = settings.of_scores(configuration, arm.task, arm.source)
        for seed in configuration.seeds:
            run = paths.run(*place, seed, "run.json")
            yield Job("train", (run,), settings.of_training(configuration, arm, seed))
            for group in groups:
                predicted = paths.predictions(*place, seed, languages_name(group))
                yield Job("predict", (predicted,), settings.of_prediction(configuration, arm.task, group, answers))
            yield Job("score", paths.scored(*place, seed), of_scores)


def outside_jobs(configuration: Configuration) -> Iterator[Job]:
    """The import and the scores of predictions that were made elsewhere."""
    grid, paths = Grid(configuration), Paths.of(configuration)
    for arm, seed, record in grid.imported(paths):
        yield Job("import_predictions", (record,), settings.of_import(configuration, arm, seed))
        yield Job("score", paths.scored(*arm.place, seed), settings.of_outside_scores(configuration, arm))


def analysis_jobs(configuration: Configuration) -> Iterator[Job]:
    """Vectors of parallel texts, and the measures and figures that are computed from them."""
    grid, paths = Grid(configuration), Paths.of(configuration)
    task = grid.analysed_task()
    groups = grid.language_groups(task) if task is not None and grid.analysed_languages() else []
    projected = set(grid.analysed_models(seeds=1))
    for model in grid.analysed_models():
        place = model.encoder, model.name
        for group in groups:
            of_representation = settings.of_representation(configuration, model.name, group)
            yield Job("represent", (paths.vectors(*place, languages_name(group)),), of_representation)
        yield Job("align", (paths.analysis(*place, "alignment.csv"),), settings.of_alignment(configuration))
        if model in projected:
            drawn = paths.analysis(*place, "points.csv"), paths.analysis(*place, "boundaries.csv")
            yield Job("project", drawn, settings.of_projection(configuration))


def summary_jobs(configuration: Configuration) -> Iterator[Job]:
    """The jobs that aggregate over the whole grid."""
    results = configuration.results

    def files(*names: str) -> tuple[str, ...]:
        return tuple(f"{results}/{name}" for name in names)

    gathered = files("alignment.csv", "projections.csv", "boundaries.csv", "samples.json")
    yield Job("gather", gathered, settings.of_gathering(configuration))
    names = (
        "scores.csv",
        "runs.csv",
        "shots.csv",
        "calibration.csv",
        "curves.parquet",
        "results.parquet",
        "oracle.csv",
        "provenance.json",
    )
    collected = files(*names)
    yield Job("collect", collected, settings.of_collection(configuration))
    compared = files("differences.csv", "source_differences.csv", "encoder_differences.csv", "ranks.csv")
    yield Job("compare", compared, settings.of_comparison(configuration))
    yield Job("explain", files("distances.csv", "explained.csv"), settings.of_explanation(configuration))
    yield Job("exemplify", files("examples.json"), settings.of_examples(configuration))
    yield Job("render", files("report.html", "summary.txt"), settings.of_page(configuration))
