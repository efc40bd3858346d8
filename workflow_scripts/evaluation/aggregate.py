"""Aggregate the long score table to the numbers of the paper's tables.

A score is one row: `encoder, task, source, method, prompt_length, seed, language, metric, value` (percent; the prompt
length is 0 for a method without prompts). The source is what the model was tuned on: `en`, or `en+de` for the union of
two training sets. An *arm* is a method at a prompt length: `fine_tuning`, `prompt_tuning-16`. Scores are always
aggregated in this order: over languages to the average of one seed, then over seeds to a mean and a standard deviation.

Tasks, sources, metrics and languages keep the order in which the score table has them; a task's first metric is its
main one.

A missing cell stays empty, and the average is over the languages present. Averages over different languages cannot be
compared, so every table has the number of languages, and `complete` is False where another arm has more of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.languages import common_codes
from workflow_scripts.core.names import OUTSIDE, arm_name, source_languages
from workflow_scripts.experiment.catalogue import METHODS

BASELINE = "fine_tuning"
SCORE_COLUMNS = ["encoder", "task", "source", "method", "prompt_length", "seed", "language", "metric", "value"]
RUN_COLUMNS = [
    "encoder",
    "task",
    "source",
    "method",
    "prompt_length",
    "seed",
    "learning_rate",
    "searched",
    "stage",
    "selected",
    "epochs",
    "epochs_taken",
    "kept_epoch",
    "keep",
    "stopped",
    "left_search_after",
    "together",
    "metric",
    "validation",
    "majority",
    "tuned_parameters",
    "encoder_parameters",
    "seconds",
    "examples_per_second",
    "peak_memory_mb",
    "stored_bytes",
    "problem",
]

ARM = ["encoder", "source", "method", "prompt_length"]
COMPARED = ("fine_tuning", "prompt_tuning")
_CELL = [column for column in SCORE_COLUMNS if column != "value"]
_LEADING = [*ARM, "arm", "seed"]
_TRAILING = ["avg", "languages"]

Arms = dict[tuple[str, str, str, str], int]  # the headline prompt length by (encoder, task, source, method)


def check_scores(scores: pd.DataFrame) -> None:
    """Raise a UserError that names the row or column if the score table cannot be aggregated."""
    absent = [column for column in SCORE_COLUMNS if column not in scores]
    if absent:
        raise UserError(f"the score table lacks the columns {', '.join(absent)}")
    repeated = scores[scores.duplicated(_CELL)]
    if not repeated.empty:
        raise UserError(f"the score table has a cell twice: {_describe(repeated.iloc[0])}")
    outside = scores[(scores["value"] < -100) | (scores["value"] > 100)]
    if not outside.empty:
        raise UserError(f"a score is not a percentage: {_describe(outside.iloc[0])}, {outside.iloc[0]['value']}")


def _describe(score: pd.Series) -> str:
    return ", ".join(f"{column} {score[column]}" for column in _CELL)


def check_runs(runs: pd.DataFrame) -> None:
    """Raise a UserError if the run table lacks a column."""
    absent = [column for column in RUN_COLUMNS if column not in runs]
    if absent:
        raise UserError(f"the run table lacks the columns {', '.join(absent)}")


def tasks_of(frame: pd.DataFrame) -> list[str]:
    """The tasks of a score or run table, in its order."""
    return list(dict.fromkeys(frame["task"]))


def sources_of(frame: pd.DataFrame) -> list[str]:
    """The sources of a score or run table, in its order."""
    return list(dict.fromkeys(frame["source"]))


def codes_of(scores: pd.DataFrame) -> dict[str, str]:
    """Common codes for languages that the tasks of a score table name differently (see `languages.common_codes`).

    SIB-200 calls English `eng_Latn`, XNLI calls it `en`: everything that spans several tasks treats them as one
    language.
    """
    tasks = [rows for _, rows in scores.groupby("task")]
    return common_codes(
        {*rows["language"], *(code for source in set(rows["source"]) for code in source_languages(source))}
        for rows in tasks
    )


def methods_of(frame: pd.DataFrame) -> list[str]:
    """The methods of a score or run table: in the catalogue's order, then the user's own by name."""
    found = set(frame["method"])
    return [method for method in METHODS if method in found] + sorted(found - set(METHODS))


def baseline_of(methods: Sequence[str]) -> str:
    """The method that the others are compared with: fine-tuning, or the first method if it is absent."""
    return BASELINE if BASELINE in methods else next(iter(methods), BASELINE)


def in_table_order(frame: pd.DataFrame, *further: str) -> pd.DataFrame:
    """Sort rows by encoder and source, then as the paper: fine-tuning before prompt tuning, short prompts first.

    Arms of predictions that were made elsewhere come last.
    """
    rank = frame["method"].map({method: place for place, method in enumerate(METHODS)}).fillna(len(METHODS))
    sources = frame["source"].map({source: place for place, source in enumerate(sources_of(frame))})
    keys = ["_outside", "encoder", "_source", "_rank", "method", "prompt_length", *further]
    ranked = frame.assign(_rank=rank, _source=sources, _outside=frame["encoder"] == OUTSIDE)
    return ranked.sort_values(keys, kind="stable").drop(columns=["_rank", "_source", "_outside"]).reset_index(drop=True)


def languages_of(table: pd.DataFrame) -> list[str]:
    """The languages that are columns of a table made by `by_language`."""
    return [column for column in table.columns if column not in (*_LEADING, *_TRAILING)]


def by_language(scores: pd.DataFrame, task: str) -> dict[str, pd.DataFrame]:
    """Tables 5 to 8, and the same for UD-POS: a table for each metric, the main one first.

    A row is one tuned model (encoder, source, arm, seed). Its columns are the languages that any arm of the task was
    scored in; `avg`, their unweighted mean including the source language, as in XTREME; and `languages`, the number of
    scores in the row. A missing score is NaN.
    """
    of_task = scores[scores["task"] == task]
    present = of_task[of_task["value"].notna()]
    found = set(present["language"])
    languages = [language for language in dict.fromkeys(of_task["language"]) if language in found]
    return {
        metric: _language_table(present[present["metric"] == metric], languages)
        for metric in dict.fromkeys(of_task["metric"])
        if (present["metric"] == metric).any()
    }


def _language_table(scores: pd.DataFrame, languages: list[str]) -> pd.DataFrame:
    models = pd.MultiIndex.from_frame(scores[[*ARM, "seed"]].drop_duplicates())  # `pivot` would sort the sources
    wide = scores.pivot(index=[*ARM, "seed"], columns="language", values="value").reindex(models, columns=languages)
    averages, counts = wide.mean(axis=1), wide.count(axis=1)
    table = wide.assign(avg=averages, languages=counts).reset_index().rename_axis(columns=None)
    table["arm"] = arm_names(table)
    return in_table_order(table, "seed")[[*_LEADING, *languages, *_TRAILING]]


def arm_names(frame: pd.DataFrame) -> list[str]:
    """The arm of each row of a table with the columns `method` and `prompt_length`."""
    return [arm_name(*pair) for pair in zip(frame["method"], frame["prompt_length"], strict=True)]


def averages(scores: pd.DataFrame) -> pd.DataFrame:
    """Table 1: for each encoder, arm, task and metric, mean and standard deviation of the average over the seeds.

    Columns: `mean`; `std`, the sample standard deviation (ddof 1; NaN with one seed); `seeds`; `languages`, the
    fewest that a seed has; `complete`, whether every seed has every language that any arm of the task has.
    """
    rows = [
        {
            **arm,
            "task": task,
            "metric": metric,
            "mean": models["avg"].mean(),
            "std": models["avg"].std(ddof=1),
            "seeds": len(models),
            "languages": int(models["languages"].min()),
            "complete": bool((models["languages"] == len(languages_of(table))).all()),
        }
        for task in tasks_of(scores)
        for metric, table in by_language(scores, task).items()
        for arm, models in _by_arm(table)
    ]
    columns = [*ARM, "arm", "task", "metric", "mean", "std", "seeds", "languages", "complete"]
    return in_table_order(pd.DataFrame(rows, columns=columns))


def _by_arm(table: pd.DataFrame) -> Iterator[tuple[dict[str, object], pd.DataFrame]]:
    for key, models in table.groupby(ARM, sort=False):
        arm = dict(zip(ARM, key, strict=True))
        yield {**arm, "arm": arm_name(arm["method"], arm["prompt_length"])}, models


def transfer_gaps(scores: pd.DataFrame) -> pd.DataFrame:
    """Table 2: the source language minus the average of the others, for each task's main metric; smaller is better.

    With a union of sources it is the average of these languages minus that of the others. The gap is computed for each
    seed. `gap` and `std` (ddof 1) are over the `seeds` that have one; `languages` is the smallest number of other
    languages among them. Without a gap, `gap` is NaN and `note` says why.
    """
    rows = []
    for task in tasks_of(scores):
        metric, table = main_table(scores, task)
        if table is None:
            continue
        for arm, models in _by_arm(table):
            others = _other_languages(table, str(arm["source"]))
            gaps = seed_gaps(models)
            counted = models.loc[gaps.index, others].count(axis=1)
            rows.append(
                {
                    **arm,
                    "task": task,
                    "metric": metric,
                    "gap": gaps.mean(),
                    "std": gaps.std(ddof=1),
                    "seeds": len(gaps),
                    "languages": int(counted.min()) if len(gaps) else 0,
                    "complete": len(gaps) == len(models) and bool((counted == len(others)).all()),
                    "note": _gap_note(models, others, len(gaps)),
                }
            )
    columns = [*ARM, "arm", "task", "metric", "gap", "std", "seeds", "languages", "complete", "note"]
    return in_table_order(pd.DataFrame(rows, columns=columns))


def main_table(scores: pd.DataFrame, task: str) -> tuple[str, pd.DataFrame | None]:
    """The name of a task's main metric and its table from `by_language`, None if there are no scores by it."""
    metrics = list(dict.fromkeys(scores[scores["task"] == task]["metric"]))
    return (metrics[0], by_language(scores, task).get(metrics[0])) if metrics else ("", None)


def _other_languages(table: pd.DataFrame, source: str) -> list[str]:
    """The languages of a table that a model was not tuned on."""
    return [language for language in languages_of(table) if language not in source_languages(source)]


def seed_gaps(models: pd.DataFrame) -> pd.Series:
    """The transfer gap of each row of a `by_language` table that has one. All rows have the same source."""
    source = str(models["source"].iloc[0]) if len(models) else ""
    own, others = source_languages(source), _other_languages(models, source)
    if not own or not others or not set(own) <= set(models.columns):
        return pd.Series(dtype=float)
    return (models[own].mean(axis=1, skipna=False) - models[others].mean(axis=1)).dropna()


def _gap_note(models: pd.DataFrame, others: list[str], with_gap: int) -> str:
    source = str(models["source"].iloc[0])
    own = source_languages(source)
    if not own:
        return "not trained on one language"
    if not set(own) <= set(models.columns) or models[own].isna().all(axis=None):
        return f"no score in the source language ({source})"
    if not others or models[others].isna().all(axis=None):
        return f"no language besides the source ({source})"
    if with_gap < len(models):
        return f"{len(models) - with_gap} of {len(models)} seeds lack the source ({source}) or all other languages"
    if models[others].isna().any(axis=None):
        return f"over {int(models[others].count(axis=1).min())} of {len(others)} other languages"
    return ""


def final_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The training runs that the scores come from: one for each encoder, task, arm and seed.

    The winner of the search is also the run of its seed if that seed is in the grid, and then has a row for it.
    """
    return in_table_order(runs[runs["stage"] == "seed"], "seed")


def runs_elsewhere(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of predictions that were made elsewhere, with their known costs."""
    return in_table_order(runs[runs["stage"] == OUTSIDE], "seed")


def validation_by_prompt_length(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean score on the validation set over the seeds, for each encoder, task, source, method and prompt length.

    `best` marks the winner for its encoder, task, source and method; ties go to the shortest prompt, which tunes
    the fewest parameters. A length without a validation score cannot win.
    """
    keys = ["encoder", "task", "source", "method"]
    lengths = (
        final_runs(runs)
        .groupby([*keys, "prompt_length"], as_index=False, sort=False)
        .agg(validation=("validation", "mean"), seeds=("validation", "count"))
    )
    ranked = lengths.dropna(subset="validation").sort_values(
        ["validation", "prompt_length"], ascending=[False, True], kind="stable"
    )
    lengths["best"] = lengths.index.isin(ranked.drop_duplicates(keys).index)
    return in_table_order(lengths)


def best_prompt_length(runs: pd.DataFrame) -> pd.DataFrame:
    """The prompt length of each encoder, task, source and method, chosen on the validation set, never on test scores.

    The paper chooses it the same way (appendix A.1: 32 for XNLI, 16 for the others). 0 for methods without prompts.
    """
    lengths = validation_by_prompt_length(runs)
    return lengths[lengths["best"]].drop(columns="best").reset_index(drop=True)


def headline_arms(scores: pd.DataFrame, runs: pd.DataFrame) -> Arms:
    """The prompt length at which table 1 shows a method, by (encoder, task, source, method).

    `best_prompt_length` chooses among several lengths. A method is left out if the runs do not determine a length, or
    if the chosen length has no scores.
    """
    chosen = best_prompt_length(runs).set_index(["encoder", "task", "source", "method"])["prompt_length"]
    arms: Arms = {}
    for key, group in scores.dropna(subset="value").groupby(["encoder", "task", "source", "method"], sort=False):
        lengths = set(group["prompt_length"])
        length = lengths.pop() if len(lengths) == 1 else chosen.get(key)
        if length is not None and (not lengths or length in lengths):
            arms[key] = int(length)
    return arms


@dataclass(frozen=True)
class Side:
    """One arm of a comparison: its average over the shared languages, and its transfer gap.

    The gap is None without a score in the source language.
    """

    method: str
    prompt_length: int
    average: float
    std: float
    seeds: int
    gap: float | None


@dataclass(frozen=True)
class Comparison:
    """Prompt tuning against fine-tuning on one task and source, by the main metric, over the languages of all seeds.

    Attributes:
        languages: the shared languages; without the source language there is no gap.
        left_out: languages that only some of the seeds or arms have.
    """

    encoder: str
    task: str
    source: str
    metric: str
    prompt_tuning: Side
    fine_tuning: Side
    languages: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def difference(self) -> float:
        """Prompt tuning's average minus fine-tuning's, in percentage points."""
        return self.prompt_tuning.average - self.fine_tuning.average


def comparisons(scores: pd.DataFrame, runs: pd.DataFrame) -> list[Comparison]:
    """The comparisons of tables 1 and 2: one for each encoder, task and source of both methods."""
    arms = headline_arms(scores, runs)
    return [
        comparison
        for encoder in sorted(set(scores["encoder"]))
        for task in tasks_of(scores)
        for source in sources_of(scores[scores["task"] == task])
        if (comparison := _compare(scores, encoder, task, source, arms)) is not None
    ]


def _compare(scores: pd.DataFrame, encoder: str, task: str, source: str, arms: Arms) -> Comparison | None:
    metric, table = main_table(scores[(scores["encoder"] == encoder) & (scores["source"] == source)], task)
    lengths = {method: arms.get((encoder, task, source, method)) for method in COMPARED}
    if table is None or None in lengths.values():
        return None
    models = {
        method: table[(table["method"] == method) & (table["prompt_length"] == length)]
        for method, length in lengths.items()
    }
    both = pd.concat(models.values())
    scored = [language for language in languages_of(table) if both[language].notna().any()]
    shared = [language for language in scored if both[language].notna().all()]
    if not shared or any(rows.empty for rows in models.values()):
        return None
    sides = {method: _side(method, rows[[*_LEADING, *shared]]) for method, rows in models.items()}
    return Comparison(
        encoder=encoder,
        task=task,
        source=source,
        metric=metric,
        prompt_tuning=sides["prompt_tuning"],
        fine_tuning=sides["fine_tuning"],
        languages=tuple(shared),
        left_out=tuple(language for language in scored if language not in shared),
    )


def _side(method: str, models: pd.DataFrame) -> Side:
    averages_by_seed = models[languages_of(models)].mean(axis=1)
    gaps = seed_gaps(models)
    return Side(
        method=method,
        prompt_length=int(models["prompt_length"].iloc[0]),
        average=float(averages_by_seed.mean()),
        std=float(averages_by_seed.std(ddof=1)),
        seeds=len(models),
        gap=float(gaps.mean()) if len(gaps) else None,
    )


def missing_cells(scores: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The scores by the main metric that the grid should have and lacks; predictions made elsewhere may be incomplete.

    Each arm of an encoder and task should have every seed that was trained or scored for any of its arms, in every
    language that any of them was scored in. Columns: encoder, task, source, method, prompt_length, arm, seed, languages
    (a tuple; all of them where the seed has no score at all).
    """
    trained = final_runs(runs)
    rows = []
    for encoder in sorted((set(scores["encoder"]) | set(runs["encoder"])) - {OUTSIDE}):
        scores_here, trained_here = scores[scores["encoder"] == encoder], trained[trained["encoder"] == encoder]
        for task in dict.fromkeys([*scores_here["task"], *trained_here["task"]]):
            rows += _missing_of_task(scores_here, trained_here[trained_here["task"] == task], task)
    columns = ["encoder", "task", "source", "method", "prompt_length", "arm", "seed", "languages"]
    return pd.DataFrame(rows, columns=columns)


def _missing_of_task(scores: pd.DataFrame, trained: pd.DataFrame, task: str) -> list[dict[str, object]]:
    _, table = main_table(scores, task)
    models = pd.DataFrame(columns=_LEADING) if table is None else table
    languages = languages_of(models)
    known = pd.concat([trained[[*ARM, "seed"]], models[[*ARM, "seed"]]])
    scored = models.set_index([*ARM, "seed"])[languages].notna()
    rows: list[dict[str, object]] = []
    for one in in_table_order(known.drop_duplicates(ARM))[ARM].itertuples(index=False):
        arm = {**dict(zip(ARM, one, strict=True)), "arm": arm_name(one.method, one.prompt_length)}
        for seed in sorted(set(known["seed"])):
            key = (*one, seed)
            found = scored.loc[key] if key in scored.index else pd.Series(False, index=languages)
            lacks = tuple(language for language in languages if not found[language])
            if lacks or key not in scored.index:
                rows.append({**arm, "task": task, "seed": seed, "languages": lacks})
    return rows
