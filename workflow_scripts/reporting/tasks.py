"""The report's facts about tasks: titles, metrics, languages. Views get these facts and never look a task up."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from workflow_scripts.experiment.tasks import TaskDefinition, builtin, names_of_builtin_tasks
from workflow_scripts.kinds.protocol import Metric


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        metrics: the main one first.
        languages: those of the test sets, in the order of tables.
        trains_on: the training corpus, as the report names it.
        paper_table: the paper's table of its scores by language; None if there is none.
        definition: the task's file; None if it is not known.
        source: which of its sources the rows come from; empty if that is not known.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    languages: tuple[str, ...]
    trains_on: str
    paper_table: int | None = None
    definition: TaskDefinition | None = None
    source: str = ""

    @property
    def generated(self) -> bool:
        """Whether this project generates the rows."""
        return bool(self.source and self.definition and self.definition.sources[self.source].type == "mini")

    @property
    def main(self) -> Metric:
        """The main metric."""
        return self.metrics[0]

    def metric(self, name: str) -> Metric:
        """A metric by its name; one that the task does not have is titled by its name."""
        return next((metric for metric in self.metrics if metric.name == name), Metric(name, name.replace("_", " ")))

    def in_order(self, languages: Iterable[str]) -> list[str]:
        """Languages in the order of the task's test sets, others last."""
        found = set(languages)
        return [code for code in self.languages if code in found] + sorted(found - set(self.languages))


@dataclass(frozen=True)
class Tasks:
    """The tasks by name, in the order of tables. A task without facts is titled by its name."""

    by_name: Mapping[str, Task]

    def __getitem__(self, name: str) -> Task:
        return self.by_name.get(name) or Task(name, name, (Metric("score", "score"),), (), "")

    def title(self, name: str) -> str:
        """The title of a task."""
        return self[name].title

    def metric_title(self, task: str, metric: str) -> str:
        """The title of a task's metric."""
        return self[task].metric(metric).title

    def heading(self, task: str, metric: str) -> str:
        """The task, with the metric if the task has several."""
        several = len(self[task].metrics) > 1
        return f"{self.title(task)}, {self.metric_title(task, metric)}" if several else self.title(task)

    def metric_note(self, task: str, metric: str) -> str:
        """The note on a metric with the names of task and metric, or nothing."""
        note = self[task].metric(metric).note
        return note and f"{self.title(task)}, {self.metric_title(task, metric)}: {note[0].lower()}{note[1:]}"

    def in_other_codes(self, codes: Mapping[str, str]) -> "Tasks":
        """The same with other codes for some languages of the test sets."""
        renamed = {
            name: replace(task, languages=tuple(codes.get(code, code) for code in task.languages))
            for name, task in self.by_name.items()
        }
        return Tasks(renamed)

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Names of tasks in the order of tables, unknown ones last."""
        found = set(names)
        return [name for name in self.by_name if name in found] + sorted(found - set(self.by_name))

    def of(self, frame: pd.DataFrame) -> list[str]:
        """The tasks of a table, in order."""
        return self.in_order(frame["task"])

    def columns(self, frame: pd.DataFrame) -> list[tuple[str, str]]:
        """The pairs of task and metric that a table has, in order."""
        present = set(zip(frame["task"], frame["metric"], strict=True))
        return [
            (task, metric.name)
            for task in self.of(frame)
            for metric in self[task].metrics
            if (task, metric.name) in present
        ]


def tasks_of(provenance: Mapping[str, Any], named: Iterable[str] = ()) -> Tasks:
    """The tasks of a grid and of the other grids in its report, as their configurations describe them.

    The built-in ones among the `named` are added.
    """
    configuration = provenance.get("configuration") or {}
    sections = dict(configuration.get("tasks") or {})
    for other in provenance.get("other_grids") or []:
        of_other = (other.get("configuration") or {}).get("tasks") or {}
        sections |= {name: section for name, section in of_other.items() if name not in sections}
    described = {
        name: TaskDefinition.model_validate(section["definition"])
        for name, section in sections.items()
        if "definition" in section
    }
    known = names_of_builtin_tasks()
    described |= {name: builtin(name) for name in dict.fromkeys(named) if name in known and name not in described}
    chosen = (configuration.get("corpora") or {}).get("source")
    return Tasks(
        {
            name: _facts(name, definition, _source(definition, sections.get(name, {}).get("source"), chosen))
            for name, definition in described.items()
        }
    )


def _source(definition: TaskDefinition, own: str | None, chosen: str | None) -> str:
    """The source in use: the task's own, or that of all corpora, or else the first one. Empty if nothing was chosen."""
    if own is None and chosen is None:
        return ""
    return own or (chosen if chosen in definition.sources else next(iter(definition.sources)))


def _facts(name: str, definition: TaskDefinition, source: str) -> Task:
    return Task(
        name=name,
        title=definition.title,
        metrics=definition.metrics,
        languages=tuple(definition.languages),
        trains_on=definition.training_corpus,
        paper_table=definition.paper_table,
        definition=definition,
        source=source,
    )
