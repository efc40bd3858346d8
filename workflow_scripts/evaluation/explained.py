"""What explains transfer: how the transfer gap correlates with the distance of a language and with its token count.

The gap of a language is the score in the source language minus that in the language, by the task's main metric,
averaged over the seeds. A union of sources has the mean of their scores. Each measure of a language is compared with
the gap by Spearman's rank correlation over the target languages of a task. A method's own gap may be large where the
baseline's is as well, so the difference of the two gaps is also compared: if it falls with the distance, the method
loses less than the baseline in distant languages.

The interval is Fisher's with the variance of Bonett & Wright (2000): (1 + r²/2) / (n - 3). With 8 languages or more it
covers in 94.5 to 99.0 % where the true correlation is at most 0.8, with and without ties (`tests/test_explained.py`
repeats that). Languages are assumed to be independent of each other; related ones are not quite.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from workflow_scripts.core.languages import language
from workflow_scripts.core.names import source_languages
from workflow_scripts.core.typology import GENETIC, SYNTACTIC, distance
from workflow_scripts.evaluation.aggregate import baseline_of, headline_arms, methods_of, tasks_of
from workflow_scripts.evaluation.pieces import Pieces, premium_of_union

FEWEST_LANGUAGES = 8
CONFIDENCE = 0.95
OTHER_SCRIPT, PREMIUM, UNKNOWN = "other_script", "premium", "unknown"
MEASURES = (SYNTACTIC, GENETIC, OTHER_SCRIPT, PREMIUM, UNKNOWN)
DISTANCE_COLUMNS = ["encoder", "task", "source", "language", *MEASURES]
COLUMNS = "encoder task source method prompt_length baseline measure correlation low high languages".split()

Counted = Mapping[tuple[str, str], Mapping[str, Pieces]]  # the pieces by encoder and task, then language


def distances(scores: pd.DataFrame, counted: Counted, parallel: Mapping[str, bool]) -> Iterator[dict[str, Any]]:
    """A row for each encoder, task, source and target language: the measures of the language. Unknown is None.

    The distance to a union of sources is that to the closest. `other_script` is 1 if no source has the script of the
    language, `premium` and `unknown` are explained in `pieces`.
    """
    cells = scores.dropna(subset="value")[["encoder", "task", "source", "language"]].drop_duplicates()
    for encoder, task, source, code in cells.itertuples(index=False):
        own = source_languages(source)
        if code in own:
            continue
        of_task = counted.get((encoder, task), {})
        sources = {name: of_task[name] for name in own if name in of_task}
        scripts = {language(name).base_script for name in own}
        script = language(code).base_script
        here = of_task.get(code)
        known = here is not None and len(sources) == len(own)
        values = {
            SYNTACTIC: _closest(SYNTACTIC, code, own),
            GENETIC: _closest(GENETIC, code, own),
            OTHER_SCRIPT: float(script not in scripts) if script and all(scripts) else None,
            PREMIUM: premium_of_union(here, sources, parallel[task]) if here is not None and known else None,
            UNKNOWN: None if here is None else here.unknown,
        }
        yield {
            **{"encoder": encoder, "task": task, "source": source, "language": code},
            **{name: None if value is None or np.isnan(value) else float(value) for name, value in values.items()},
        }


def _closest(kind: str, code: str, sources: Sequence[str]) -> float | None:
    found = [value for name in sources if (value := distance(kind, code, name)) is not None]
    return min(found) if len(found) == len(sources) else None


def gaps(scores: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The gap in each target language of each method's headline arm: points. A method without a gap has no rows.

    Columns: `encoder`, `task`, `source`, `method`, `prompt_length`, `language`, `gap`.
    """
    keys = ["encoder", "task", "source", "method"]
    arms = headline_arms(scores, runs)
    rows: list[dict[str, Any]] = []
    for task in tasks_of(scores):
        of_task = scores[scores["task"] == task]
        main = of_task[of_task["metric"] == of_task["metric"].iloc[0]].dropna(subset="value")
        means = main.groupby([*keys, "prompt_length", "language"])["value"].mean()
        for key, length in arms.items():
            if key[1] != task or (*key, length) not in means.index:
                continue
            by_language = means.loc[(*key, length)]
            own = source_languages(key[2])
            if set(own) <= set(by_language.index):
                values = by_language[own].mean() - by_language.drop(own)
                place = dict(zip(keys, key, strict=True)) | {"prompt_length": length}
                rows += [{**place, "language": code, "gap": gap} for code, gap in values.items()]
    return pd.DataFrame(rows, columns=[*keys, "prompt_length", "language", "gap"])


def explained(found: pd.DataFrame, measures: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The correlation of each measure with the gap of each method, and with its difference from the baseline's gap.

    Args:
        found: the table of `gaps`.
        measures: the table of `distances`.

    `baseline` is empty for the gap itself. The baseline is fine-tuning, or the first method where there is none. With
    fewer than 8 languages, or where a measure does not vary, there is no correlation.
    """
    keys = ["encoder", "task", "source"]
    for place, of_task in found.groupby(keys, sort=False):
        known = measures[(measures[keys] == list(place)).all(axis=1)].set_index("language")
        wide = of_task.pivot(index="language", columns="method", values="gap")
        lengths = dict(zip(of_task["method"], of_task["prompt_length"], strict=True))
        methods = methods_of(of_task)
        first = baseline_of(methods)
        for method in methods:
            for baseline in ("", first) if method != first else ("",):
                values = wide[method] - wide[baseline] if baseline else wide[method]
                for measure in MEASURES:
                    yield {
                        **dict(zip(keys, place, strict=True)),
                        "method": method,
                        "prompt_length": lengths[method],
                        "baseline": baseline,
                        "measure": measure,
                        **correlation(known[measure].reindex(values.index).to_numpy(float), values.to_numpy(float)),
                    }


def correlation(measure: np.ndarray, gap: np.ndarray) -> dict[str, Any]:
    """Spearman's correlation with its interval, and the number of languages that have both values."""
    both = ~(np.isnan(measure) | np.isnan(gap))
    count = int(both.sum())
    nothing = {"correlation": None, "low": None, "high": None, "languages": count}
    # Ten digits: gaps that are equal but for the order of a sum are ties.
    x, y = np.round(measure[both], 10), np.round(gap[both], 10)
    if count < FEWEST_LANGUAGES or np.ptp(x) == 0 or np.ptp(y) == 0:
        return nothing
    r = float(stats.spearmanr(x, y).statistic)
    low, high = interval(r, count)
    return {"correlation": r, "low": low, "high": high, "languages": count}


def interval(r: float, count: int) -> tuple[float, float]:
    """The 95 % interval of Spearman's correlation (Bonett & Wright 2000)."""
    half = float(special.ndtri((1 + CONFIDENCE) / 2)) * np.sqrt((1 + r**2 / 2) / (count - 3))
    centre = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))
