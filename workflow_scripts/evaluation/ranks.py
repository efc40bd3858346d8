"""Which arm is best, all in all: the rows of `ranks.csv`, one ranking for each encoder and training source.

Ranked are the arms that have scores on every task of the encoder and source, by each task's main metric, in all target
languages that the models of all these arms were tested in. The languages of the source do not count: the question is
transfer. A method takes part at each prompt length that it has on all tasks; if there is none, since the tasks have
different lengths, it takes part once, at the length chosen on validation for each task.

Predictions made elsewhere are ranked with each encoder, if they cover every task and target language of its arms: with
fewer, they would take languages from the ranking of the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.core.names import NO_SEED, OUTSIDE, source_languages
from workflow_scripts.evaluation.aggregate import headline_arms, methods_of, sources_of, tasks_of
from workflow_scripts.evaluation.differences import Reader, Units, shared_languages, shared_units, sums_of
from workflow_scripts.evaluation.ranking import ScoredTask, ranking, scored_arm, scored_task
from workflow_scripts.experiment.grid import Arm

ESTIMATED = "low high first low_here high_here first_here".split()
COLUMNS = [*"encoder source method prompt_length mean_rank".split(), *ESTIMATED, *"arms tasks languages seeds".split()]


@dataclass(frozen=True)
class Entry:
    """What is ranked: a method with its prompt length on each task.

    `encoder` is `outside` for predictions made elsewhere, and `source` is then their own. `prompt_length` is None where
    it differs between tasks, 0 for a method without prompts.
    """

    encoder: str
    source: str
    method: str
    prompt_length: int | None
    by_task: Mapping[str, int]


def rankings(scores: pd.DataFrame, runs: pd.DataFrame, read: Reader) -> Iterator[dict[str, Any]]:
    """The rows: for each encoder and source with at least two such arms, the arms from the best mean rank on.

    `arms`, `tasks` and `languages` are how many the ranking has; `seeds` is the smallest number that an arm has on a
    task, apart from arms without seeds. Intervals and `first` are explained in `ranking`.
    """
    scored = scores.dropna(subset="value")
    is_outside = scored["encoder"] == OUTSIDE
    sources = sources_of(scored[~is_outside])
    for encoder in sorted(set(scored.loc[~is_outside, "encoder"])):
        for source in sources:
            own = (scored["encoder"] == encoder) & (scored["source"] == source)
            # As in the comparisons with the baseline: an arm of another source of the grid belongs to that source.
            others = is_outside & ((scored["source"] == source) | ~scored["source"].isin(sources))
            transfer = ~scored["language"].isin(source_languages(source))
            targets = pd.concat([scored[own & transfer], complete_arms(scored[others], scored[own & transfer])])
            entries = entries_of(targets, runs)
            if any(entry.encoder == encoder for entry in entries) and len(entries) > 1:
                yield from _rows(encoder, source, entries, targets, read)


def complete_arms(others: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of those other arms that have every task and language of `scores`, in these languages."""
    cells = scores[["task", "language"]].drop_duplicates()
    here = others.merge(cells)  # in these tasks and languages
    arms = [arm for _, arm in here.groupby(["source", "method"]) if len(arm[[*cells]].drop_duplicates()) == len(cells)]
    return pd.concat([here.iloc[:0], *arms])


def entries_of(scores: pd.DataFrame, runs: pd.DataFrame) -> list[Entry]:
    """What can be ranked among the scores of one ranking: what is there on every task with two arms."""
    lengths = {
        task: {method: sorted(set(rows["prompt_length"])) for method, rows in of_task.groupby("method")}
        for task, of_task in scores.groupby("task")
    }
    lengths = {task: found for task, found in lengths.items() if sum(map(len, found.values())) > 1}
    chosen = {(task, method): length for (_, task, _, method), length in headline_arms(scores, runs).items()}
    entries = []
    for method in methods_of(scores):
        if not lengths or not all(method in found for found in lengths.values()):
            continue
        common = sorted(set.intersection(*(set(found[method]) for found in lengths.values())))
        encoder, source = scores.loc[scores["method"] == method, ["encoder", "source"]].iloc[0]
        place = (str(encoder), str(source), method)
        entries += [Entry(*place, int(length), dict.fromkeys(lengths, int(length))) for length in common]
        if not common and all((task, method) in chosen for task in lengths):
            entries.append(Entry(*place, None, {task: chosen[task, method] for task in lengths}))
    return entries


def _rows(
    encoder: str, source: str, entries: Sequence[Entry], scores: pd.DataFrame, read: Reader
) -> Iterator[dict[str, Any]]:
    tasks: list[ScoredTask] = []
    fewest: list[int] = []
    for task in tasks_of(scores):
        if task in entries[0].by_task:
            arms = [Arm(each.encoder, task, each.source, each.method, each.by_task[task]) for each in entries]
            found = _scored(arms, scores[scores["task"] == task], read)
            if found is not None:
                tasks.append(found[0])
                fewest.append(found[1])
    if not tasks:
        return
    result = ranking(tasks)
    for place in np.argsort(result.mean, kind="stable"):
        entry = entries[place]
        yield {
            "encoder": encoder,
            "source": source,
            "method": entry.method,
            "prompt_length": entry.prompt_length,
            "mean_rank": float(result.mean[place]),
            **{column: float(getattr(result, column)[place]) for column in ESTIMATED},
            "arms": len(entries),
            "tasks": len(tasks),
            "languages": len(set().union(*(task.languages for task in tasks))),
            "seeds": min(fewest),
        }


def _scored(arms: Sequence[Arm], scores: pd.DataFrame, read: Reader) -> tuple[ScoredTask, int] | None:
    """The arms on one task, and the fewest seeds of one that has seeds; None if they share no target language."""
    metric = scores["metric"].iloc[0]
    of_metric = scores[scores["metric"] == metric]
    models: dict[tuple[Arm, int], Units] = {}
    for arm in arms:
        rows = of_metric[(of_metric["method"] == arm.method) & (of_metric["prompt_length"] == arm.prompt_length)]
        models |= {(arm, seed): read(arm, seed, metric) for seed in sorted(map(int, set(rows["seed"])))}
    order = list(dict.fromkeys(of_metric["language"]))
    languages = [language for language in shared_languages(list(models.values()), order) if language in order]
    if not languages or len({arm for arm, _ in models}) < len(arms):
        return None
    names = [shared_units(models, language) for language in languages]
    everything = sorted(set().union(*names))
    number = {unit: place for place, unit in enumerate(everything)}
    places = [np.array([number[unit] for unit in units]) for units in names]
    found, seeds = [], []
    for arm in arms:
        own = [units for (other, _), units in models.items() if other == arm]
        sums = [
            sums_of([units[language] for units in own], rows) for language, rows in zip(languages, names, strict=True)
        ]
        by_seed = [[(above[seed], below[seed]) for above, below in sums] for seed in range(len(own))]
        found.append(scored_arm(by_seed, places, len(everything)))
        if (arm, NO_SEED) not in models:
            seeds.append(len(own))
    return scored_task(languages, found), min(seeds)
