"""Chooses the model of a task to export: the one that transferred best."""

from dataclasses import dataclass

import pandas as pd

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.names import OUTSIDE, arm_name, source_languages
from workflow_scripts.evaluation.aggregate import final_runs

ARM = ["encoder", "source", "method", "prompt_length"]


@dataclass(frozen=True)
class Winner:
    """The best model of an arm.

    Attributes:
        folder: its run's folder within the results.
        mean: the arm's mean score, over seeds and the languages that it was not tuned on.
        arms: how many arms were compared.
        seeds: how many seeds the arm has.
    """

    folder: str
    mean: float
    arms: int
    seeds: int

    @property
    def note(self) -> str:
        """How the model was chosen, for its card."""
        if self.arms == 1:
            return "It is the model of the seed with the best score on the validation set."
        return (
            f"It was chosen among {self.arms} ways of tuning by its mean score in the languages that it was not tuned"
            " on. The best of several is also the luckiest of them, so expect slightly lower scores on other texts."
        )


def ranking(scores: pd.DataFrame, runs: pd.DataFrame, task: str, metric: str) -> list[Winner]:
    """Return the arms by their mean over seeds and languages, the best first, each with its best seed on validation.

    A model counts in the languages that it was not tuned on; if a grid has no such language, in all of them. Ties go to
    the arm that tunes fewer parameters.

    Args:
        scores, runs: the grid's `scores.csv` and `runs.csv`.
        task: the task.
        metric: its main metric.

    Raises UserError if no tuned model of the task has a score.
    """
    tuned = final_runs(runs)
    tuned = tuned[(tuned["task"] == task) & (tuned["tuned_parameters"] > 0)]
    rows = scores[(scores["task"] == task) & (scores["metric"] == metric) & (scores["encoder"] != OUTSIDE)]
    rows = rows.dropna(subset="value").merge(tuned[[*ARM, "seed", "tuned_parameters"]], on=[*ARM, "seed"])
    pairs = zip(rows["language"], rows["source"], strict=True)
    elsewhere = rows[[language not in source_languages(source) for language, source in pairs]]
    rows = rows if elsewhere.empty else elsewhere
    if rows.empty:
        raise UserError(f"no tuned model of the task {task} has a score: there is nothing to export")
    means = rows.groupby(ARM).agg(mean=("value", "mean"), parameters=("tuned_parameters", "max")).reset_index()
    found = []
    for best in means.sort_values(["mean", "parameters"], ascending=[False, True], kind="stable").to_dict("records"):
        own = tuned[(tuned[ARM] == pd.Series(best)[ARM]).all(axis=1)]
        seed = own.sort_values("validation", ascending=False, kind="stable")["seed"].iloc[0]
        arm = arm_name(best["method"], int(best["prompt_length"]))
        folder = f"{best['encoder']}/{task}/{best['source']}/{arm}/seed-{seed}"
        found.append(Winner(folder, float(best["mean"]), len(means), len(own)))
    return found
