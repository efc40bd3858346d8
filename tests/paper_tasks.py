"""The five tasks of the paper, and rows of them, for tests."""

from pathlib import Path
from typing import Any

from workflow_scripts.corpora import files, mini
from workflow_scripts.corpora.rows import complete
from workflow_scripts.experiment.tasks import TaskDefinition, builtin, resolve

TASKS: dict[str, TaskDefinition] = {name: builtin(name) for name in ("xnli", "pawsx", "udpos", "xquad", "tydiqa")}
MINI_LANGUAGES = mini.LANGUAGES


def metric_names(task: str) -> list[str]:
    """The names of a task's metrics, the main one first."""
    return [metric.name for metric in TASKS[task].metrics]


def mini_rows(task: str, language: str, split: str, limit: int | None = None) -> list[dict[str, Any]]:
    """Rows of the mini benchmark."""
    corpus = resolve(task, TASKS[task], "mini", language, split, limit)
    return list(complete(lambda: mini.rows(corpus, None, Path()), corpus))


def xtreme_rows(folder: Path, task: str, language: str, split: str, limit: int | None = None) -> list[dict[str, Any]]:
    """Rows of a folder that XTREME's scripts have filled."""
    corpus = resolve(task, TASKS[task], "xtreme", language, split, limit, folder=str(folder))
    return list(complete(lambda: files.rows(corpus, None, Path()), corpus))
