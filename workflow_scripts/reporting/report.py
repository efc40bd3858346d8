"""The data of the report: the inputs with display names, and every frame that more than one view needs.

Each frame is a cached property, so that the page, the tables and the summary share it. `Report.of` makes the report of
some inputs; only this module calls the aggregation of scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from workflow_scripts.core.names import OUTSIDE, source_languages
from workflow_scripts.evaluation.aggregate import (
    Comparison,
    averages,
    by_language,
    codes_of,
    comparisons,
    headline_arms,
    in_table_order,
    languages_of,
    methods_of,
    missing_cells,
    transfer_gaps,
)
from workflow_scripts.reporting import published
from workflow_scripts.reporting.inputs import Inputs
from workflow_scripts.reporting.tables import (
    by_shots,
    cost,
    learning_rate_search,
    problems,
    prompt_lengths,
    representations,
)
from workflow_scripts.reporting.tasks import Tasks, tasks_of
from workflow_scripts.reporting.wording import Names, name_methods

# The columns that name a tuned model apart from its task and seed.
MODEL = ["encoder", "source", "method", "prompt_length"]
CEILINGS = ["encoder", "task", "metric", "language", "value"]

Arms = dict[tuple[str, str, str, str], int]  # the headline prompt length by (encoder, task, source, method)


@dataclass(frozen=True)
class ScoresByLanguage:
    """The scores of a task by one metric: a row for each tuned model, and which columns are languages."""

    frame: pd.DataFrame
    languages: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The languages and the average."""
        return [*self.languages, "avg"]

    @cached_property
    def means(self) -> pd.DataFrame:
        """The means over seeds: a row for each arm (its index is `MODEL`), a column for each language and `avg`."""
        return self.frame.groupby(MODEL, sort=False)[self.columns].mean()


@dataclass(frozen=True)
class Report:
    """The inputs, the facts about tasks, and the names; see `Report.of`.

    A language has one code in all of them: `codes` maps the differing codes of some tasks.
    """

    inputs: Inputs
    tasks: Tasks
    names: Names
    codes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Inputs, tasks: Tasks | None = None) -> "Report":
        """The report of some inputs.

        Args:
            inputs: the tables and records of earlier steps.
            tasks: the facts about the tasks; without them, those of the configuration in the provenance, and the
                built-in ones that a table names.

        Raises:
            UserError: a table lacks a column, or the provenance a key of its benchmark.
        """
        inputs.check()
        codes = codes_of(inputs.scores)
        inputs = inputs.in_other_codes(codes)
        name_methods(_titles(inputs.provenance))
        both = pd.concat([inputs.scores[["encoder", "source"]], inputs.runs[["encoder", "source"]]])
        both = both[both["encoder"] != OUTSIDE]
        names = Names(several_encoders=both["encoder"].nunique() > 1, sources=tuple(dict.fromkeys(both["source"])))
        named = [*inputs.scores["task"], *inputs.runs["task"], *inputs.published["task"]]
        tasks = (tasks or tasks_of(inputs.provenance, named)).in_other_codes(codes)
        return cls(inputs, tasks, names, codes)

    @property
    def scores(self) -> pd.DataFrame:
        """The long score table."""
        return self.inputs.scores

    @property
    def runs(self) -> pd.DataFrame:
        """The training runs."""
        return self.inputs.runs

    @property
    def differences(self) -> pd.DataFrame:
        """Each method minus the baseline."""
        return self.inputs.differences

    @property
    def benchmark(self) -> dict[str, Any]:
        """What was run."""
        return self.inputs.provenance["benchmark"]

    @property
    def generated(self) -> bool:
        """Whether the corpora are those of the mini benchmark."""
        return self.benchmark["source"] == "mini"

    @property
    def encoders(self) -> list[str]:
        """The encoders of the grid."""
        return sorted((set(self.scores["encoder"]) | set(self.runs["encoder"])) - {OUTSIDE})

    @property
    def outside(self) -> list[str]:
        """The arms of predictions that were made elsewhere."""
        return methods_of(self.scores[self.scores["encoder"] == OUTSIDE])

    @property
    def methods(self) -> list[str]:
        """The methods of the runs."""
        return methods_of(self.runs)

    def _with_source_after_task(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with its columns in the order of all tables: encoder, task, source."""
        columns = [column for column in frame.columns if column != "source"]
        columns.insert(columns.index("task") + 1, "source")
        return frame[columns]

    def _by_task(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows with the tasks in order; the order within a task is kept."""
        rank = {task: place for place, task in enumerate(self.tasks.of(frame))}
        return frame.sort_values("task", key=lambda names: names.map(rank), kind="stable").reset_index(drop=True)

    @cached_property
    def arms(self) -> Arms:
        """The prompt length that shows a method, chosen on validation."""
        return headline_arms(self.scores, self.runs)

    def is_headline(self, frame: pd.DataFrame) -> pd.Series:
        """Which rows belong to the arm that shows their method."""
        keys = ("encoder", "task", "source", "method", "prompt_length")
        rows = zip(*(frame[key] for key in keys), strict=True)
        found = [self.arms.get((encoder, task, source, method)) == n for encoder, task, source, method, n in rows]
        return pd.Series(found, index=frame.index, dtype=bool)

    def _main(self, scores: pd.DataFrame) -> pd.DataFrame:
        """The scores by the main metric of their task."""
        main = [self.tasks[task].main.name for task in scores["task"]]
        return scores[scores["metric"] == pd.Series(main, index=scores.index, dtype=object)]

    def _mark_headline(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(headline=self.is_headline(table))

    @cached_property
    def averages(self) -> pd.DataFrame:
        """Table 1 with a column `headline`: whether the arm shows its method."""
        return self._mark_headline(self._with_source_after_task(averages(self.scores)))

    @cached_property
    def gaps(self) -> pd.DataFrame:
        """Table 2 with a column `headline`, as `averages`."""
        return self._mark_headline(self._with_source_after_task(transfer_gaps(self.scores)))

    @cached_property
    def by_language(self) -> dict[str, dict[str, ScoresByLanguage]]:
        """Tables 5 to 8, and the same for other tasks: by task and metric, a row for each tuned model."""
        return {task: self._of_task(task) for task in self.tasks.of(self.scores.dropna(subset="value"))}

    def _of_task(self, task: str) -> dict[str, ScoresByLanguage]:
        trailing, front = ["avg", "languages"], [*MODEL, "arm", "seed"]
        found = {}
        for metric, table in by_language(self.scores, task).items():
            ordered = self.tasks[task].in_order(languages_of(table))
            found[metric] = ScoresByLanguage(table[[*front, *ordered, *trailing]], tuple(ordered))
        return found

    def main_scores(self, task: str) -> ScoresByLanguage | None:
        """The scores of a task by its main metric, if there are any."""
        return self.by_language.get(task, {}).get(self.tasks[task].main.name)

    @cached_property
    def comparisons(self) -> dict[tuple[str, str, str], Comparison]:
        """Prompt tuning against fine-tuning, by encoder, task and source."""
        return {(one.encoder, one.task, one.source): one for one in comparisons(self.scores, self.runs)}

    @cached_property
    def by_source(self) -> pd.DataFrame:
        """The main metric by training source and test language, for the arm that shows each method.

        Columns: `encoder`, `task`, `method`, `source`, `language`, `value` (the mean over seeds), `std`, `seeds`.
        """
        tuned = self.scores[self.scores["encoder"] != OUTSIDE]
        shown = tuned[self.is_headline(tuned)].dropna(subset="value")
        keys = ["encoder", "task", "method", "source", "language"]
        grouped = self._main(shown).groupby(keys, sort=False, as_index=False)
        return self._by_task(grouped["value"].agg(value="mean", std="std", seeds="count"))

    @cached_property
    def shots(self) -> pd.DataFrame:
        """The main metric by target language and by its number of rows in training, for the arm that shows each method.

        See `tables.by_shots`; empty if the grid has no such models.
        """
        shots = self._main(self.inputs.shots[self.is_headline(self.inputs.shots)])
        return self._by_task(by_shots(shots, self._main(self.scores)))

    @cached_property
    def missing(self) -> pd.DataFrame:
        """The scores that the grid should have and lacks."""
        return self._with_source_after_task(missing_cells(self.scores, self.runs))

    @cached_property
    def problems(self) -> pd.DataFrame:
        """The runs that failed or did not learn; `final` where the scores come from them."""
        return self._by_task(self._with_source_after_task(problems(self.runs))).sort_values(
            "final", ascending=False, kind="stable"
        )

    @cached_property
    def costs(self) -> pd.DataFrame:
        """What each arm costs."""
        return self._by_task(self._with_source_after_task(cost(self.runs)))

    @cached_property
    def search(self) -> pd.DataFrame:
        """Every candidate of the learning-rate search."""
        return self._by_task(self._with_source_after_task(learning_rate_search(self.runs)))

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """The calibration of each model by language, for the arm that shows each method."""
        return self._by_task(in_table_order(self.inputs.calibration[self.is_headline(self.inputs.calibration)]))

    @cached_property
    def curves(self) -> pd.DataFrame:
        """The points of all training curves."""
        return self._by_task(in_table_order(self.inputs.curves))

    @cached_property
    def lengths(self) -> pd.DataFrame:
        """Each prompt length on validation and on the test sets."""
        return self._by_task(self._with_source_after_task(prompt_lengths(self.scores, self.runs)))

    def representations(self, measures: Sequence[str]) -> pd.DataFrame:
        """Measures of section 5 over the seeds, the untuned encoder first, then by training task."""
        return self._by_task_trained_on(representations(self.inputs.alignment, measures))

    @property
    def analysis_reference(self) -> str:
        """The language that the analyses of representations compare the others with: the first of their texts."""
        trained = [language for source in self.names.sources for language in source_languages(source)]
        return str(next(iter([*self.inputs.samples.get("languages", ()), *trained]), ""))

    def _by_task_trained_on(self, frame: pd.DataFrame) -> pd.DataFrame:
        rank = {task: place for place, task in enumerate(["", *self.tasks.in_order(set(frame["task"]) - {""})])}
        return frame.sort_values("task", key=lambda names: names.map(rank), kind="stable").reset_index(drop=True)

    @cached_property
    def ceilings(self) -> pd.DataFrame:
        """The best scores that any span of tokens can reach, in the order of the tasks.

        Columns: `encoder`, `task`, `metric`, `language`, `value`.
        """
        records = self.inputs.provenance.get("ceilings") or []
        rows = [
            (record["encoder"], task, metric.name, language, values[language])
            for task in self.tasks.in_order(record["task"] for record in records)
            for record in records
            if record["task"] == task
            for metric in self.tasks[task].metrics
            for values in [self._in_own_codes(record["metrics"][metric.name])]
            for language in self.tasks[task].in_order(values)
        ]
        return pd.DataFrame(rows, columns=CEILINGS)

    def _in_own_codes(self, by_language: Mapping[str, Any]) -> dict[str, Any]:
        return {self.codes.get(code, code): value for code, value in by_language.items()}

    @cached_property
    def audit(self) -> pd.DataFrame:
        """The paper's figures, recomputed."""
        return published.audit(self.inputs.published, self.tasks)

    @cached_property
    def beside(self) -> pd.DataFrame:
        """Our scores beside the paper's, for the encoders and tasks that are comparable."""
        return published.beside(self)


def _titles(provenance: dict[str, Any]) -> dict[str, str]:
    """The titles that the configuration gives to methods and arms; none from a record of another form."""
    others = [one.get("configuration") for one in provenance.get("other_grids") or []]
    known = [one or {} for one in [*others, provenance.get("configuration")]]
    sections = [configuration.get(key) for configuration in known for key in ("methods", "arms")]
    named = [item for section in sections if isinstance(section, dict) for item in section.items()]
    return {name: section["title"] for name, section in named if section.get("title")}
