"""A grid with a task of each shape of row: one text, pairs, words, questions about a context, and choices."""

import json
from pathlib import Path
from typing import Any

import yaml
from own_task import own_grid, write_own_task

SCORES = {
    "title": "Similarity",
    "kind": "regression",
    "labels": [0, 5],
    "languages": ["en"],
    "source": {
        "type": "files",
        "path": "scores/{split}.jsonl",
        "columns": {"text": "a", "text_pair": "b", "score": "gold"},
    },
}
CHOICES = {
    "title": "Endings",
    "kind": "multiple_choice",
    "languages": ["en"],
    "source": {
        "type": "files",
        "path": "choices/{split}.jsonl",
        "columns": {"text": "start", "choices": ["end1", "end2"], "label": "right"},
    },
}


def write_tasks(folder: Path) -> dict[str, str]:
    """Write the tasks and their data below a working folder; return the task files by name."""
    my = folder / "my"
    for split in ("train", "validation", "test"):
        for name in ("scores", "choices"):
            (my / name).mkdir(parents=True, exist_ok=True)
        scores = [{"a": f"row {number}", "b": f"pair {split} {number}", "gold": number % 6} for number in range(12)]
        ends = [
            {"start": f"{split} {number}", "end1": "good end", "end2": f"bad {number}", "right": number % 2}
            for number in range(12)
        ]
        for name, rows in (("scores", scores), ("choices", ends)):
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (my / name / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    for name, task in (("similarity", SCORES), ("endings", CHOICES)):
        (my / f"{name}.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
    return {"mood": write_own_task(folder), "similarity": "my/similarity.yaml", "endings": "my/endings.yaml"}


def configuration(encoder: Path, files: dict[str, str]) -> dict[str, Any]:
    """The grid of these tasks, and of tagging and question answering in the mini benchmark; the first has two runs."""
    grid = own_grid(encoder, files["mood"])
    small = {"languages": ["en"], "max_length": 64, "limits": {"train": 16, "validation": 8, "test": 4}}
    grid["methods"] = {"fine_tuning": {"learning_rates": [2e-3]}}
    grid["tasks"] = {
        "mood": grid["tasks"]["mood"] | {"train_on": ["en", "de"], "languages": ["en"]},
        "similarity": {"file": files["similarity"], "max_length": 24},
        "endings": {"file": files["endings"], "max_length": 24},
        "udpos": small,
        "xquad": small | {"stride": 16},
    }
    return grid
