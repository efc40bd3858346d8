"""Which arm is best overall: the rows of `ranks.csv`, one ranking for each encoder and training source.

Ranked are the arms that have scores on every task of the encoder and source, by each task's main metric, in all target
languages that the models of all these arms were tested in. The languages of the source do not count: the question is
transfer. A method takes part at each prompt length that it has on all tasks; if there is none, since the tasks have
different lengths, it takes part once, at the length chosen on validation for each task.

Predictions made elsewhere are ranked with each encoder, if they cover every task and target language of its arms: with
fewer, they would take languages from the ranking of the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.core.names import NO_SEED, OUTSIDE, in_other_codes, source_languages
from workflow_scripts.evaluation.aggregate import codes_of, headline_arms, methods_of, tasks_of
from workflow_scripts.evaluation.differences import Reader, Units, shared_languages, shared_units, sums_of
from workflow_scripts.evaluation.ranking import ScoredTask, ranking, scored_arm, scored_task
from workflow_scripts.experiment.grid import Arm

ESTIMATED = "low high first low_here high_here first_here".split()
ARM_COLUMNS = [each.name for each in fields(Arm)]
COLUMNS = [*"encoder source method prompt_length mean_rank".split(), *ESTIMATED, *"arms tasks languages seeds".split()]


@dataclass(frozen=True)
class Entry:
    """What is ranked: a method, and its arm on each task.

    `prompt_length` is None where it differs between tasks, 0 for a method without prompts.
    """

    method: str
    prompt_length: int | None
    arms: Mapping[str, Arm]


def rankings(scores: pd.DataFrame, runs: pd.DataFrame, read: Reader) -> Iterator[dict[str, Any]]:
    """The rows: for each encoder and source with at least two such arms, the arms from the best mean rank on.

    `arms`, `tasks` and `languages` are how many the ranking has; `seeds` is the smallest number that an arm has on a
    task, apart from arms without seeds. Intervals and `first` are explained in `ranking`.
    """
    codes = codes_of(scores)
    scored = scores.dropna(subset="value").copy()
    scored["tuned_on"], scored["tested_in"] = (
        [in_other_codes(name, codes) for name in scored[column]] for column in ("source", "language")
    )
    is_outside = scored["encoder"] == OUTSIDE
    sources = list(dict.fromkeys(scored.loc[~is_outside, "tuned_on"]))
    for encoder in sorted(set(scored.loc[~is_outside, "encoder"])):
        for source in sources:
            transfer = ~scored["tested_in"].isin(source_languages(source))
            own = scored[(scored["encoder"] == encoder) & (scored["tuned_on"] == source) & transfer]
            # As in the comparisons with the baseline: an arm of another source of the grid belongs to that source.
            others = is_outside & ((scored["tuned_on"] == source) | ~scored["tuned_on"].isin(sources))
            targets = pd.concat([own, complete_arms(scored[others], own)])
            entries = entries_of(targets, runs)
            if len(entries) > 1 and any(entry.method in set(own["method"]) for entry in entries):
                yield from _rows(encoder, source, entries, targets, read)


def complete_arms(others: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of those other arms that have every task and language of `scores`, in these languages."""
    cells = scores[["task", "language"]].drop_duplicates()
    here = others.merge(cells)
    arms = [
        arm for _, arm in here.groupby(["tuned_on", "method"]) if len(arm[[*cells]].drop_duplicates()) == len(cells)
    ]
    return pd.concat([here.iloc[:0], *arms])


def entries_of(scores: pd.DataFrame, runs: pd.DataFrame) -> list[Entry]:
    """The candidates that can be ranked: those with scores on every task that has at least two arms."""
    arms: dict[str, dict[str, list[Arm]]] = {}
    for encoder, task, source, method, length in scores[ARM_COLUMNS].drop_duplicates().itertuples(index=False):
        arms.setdefault(task, {}).setdefault(method, []).append(Arm(encoder, task, source, method, int(length)))
    tasks = [task for task, by_method in arms.items() if sum(map(len, by_method.values())) > 1]
    chosen = headline_arms(scores, runs)
    entries = []
    for method in methods_of(scores) if tasks else []:
        of_method = [arm for task in tasks for arm in arms[task].get(method, [])]
        common = set.intersection(*({arm.prompt_length for arm in of_method if arm.task == task} for task in tasks))
        for length in sorted(common):
            entries.append(Entry(method, length, {arm.task: arm for arm in of_method if arm.prompt_length == length}))
        if not common:
            keys = {arm: (arm.encoder, arm.task, arm.source, method) for arm in of_method}
            by_task = {arm.task: arm for arm in of_method if chosen.get(keys[arm]) == arm.prompt_length}
            entries += [Entry(method, None, by_task)] if len(by_task) == len(tasks) else []
    return entries


def _rows(
    encoder: str, source: str, entries: Sequence[Entry], scores: pd.DataFrame, read: Reader
) -> Iterator[dict[str, Any]]:
    tasks: list[ScoredTask] = []
    fewest: list[int] = []
    for task in tasks_of(scores):
        if task in entries[0].arms:
            found = _scored([entry.arms[task] for entry in entries], scores[scores["task"] == task], read)
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
    tested_in = dict(zip(scores["language"], scores["tested_in"], strict=True))
    return scored_task([tested_in[language] for language in languages], found), min(seeds)
