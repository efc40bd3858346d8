"""A small task of the user's own, in CSV files, with training sets in three languages and labels that can be learnt."""

import csv
import random
from pathlib import Path
from typing import Any

import yaml

LANGUAGES = ("en", "de", "fr")
# The word that determines the label, first in the text. The words of one language carry no information about another's.
CUES = {
    "en": {"good": "wow", "bad": "ugh"},
    "de": {"good": "fein", "bad": "pfui"},
    "fr": {"good": "zut", "bad": "chic"},
    "ja": {"good": "kki", "bad": "nnn"},
}
ROWS = {
    "train": {"en": 48, "de": 32, "fr": 16},
    "validation": dict.fromkeys(LANGUAGES, 12),
    "test": dict.fromkeys(CUES, 16),
}

TASK = {
    "title": "Moods",
    "kind": "classification",
    "labels": ["good", "bad"],
    "languages": list(LANGUAGES),
    "train_languages": None,
    "parallel": True,
    "source": {
        "type": "files",
        "path": "data/{language}/{split}.csv",
        "columns": {"id": "number", "text": "sentence", "label": "mood"},
    },
}


def write_own_task(folder: Path) -> str:
    """Write the task file and its data into the folder `my` of a working folder; return the task file's path there."""
    for split, languages in ROWS.items():
        for language, count in languages.items():
            file = folder / "my" / "data" / language / f"{split}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("w", newline="", encoding="utf-8") as lines:
                table = csv.writer(lines)
                table.writerow(["number", "sentence", "mood"])
                table.writerows(sentences(split, language, count))
    file = folder / "my" / "mood.yaml"
    file.write_text(yaml.safe_dump(TASK, sort_keys=False), encoding="utf-8")
    return "my/mood.yaml"


def sentences(split: str, language: str, count: int) -> list[tuple[str, str, str]]:
    """Number, text and label of each row; half of them have each label, and translations have the same."""
    chance = random.Random(f"{split} {language}")
    rows = []
    for number in range(count):
        label = TASK["labels"][number % 2]
        rest = "".join(chance.choice("abcdeo") for _ in range(chance.randint(2, 6)))
        rows.append((f"{split}-{number}", f"{CUES[language][label]} {rest}", label))
    return rows


def own_grid(encoder: Path, file: str) -> dict[str, Any]:
    """A configuration that tunes on English, on German and on both."""
    return {
        "encoders": {"tiny": {"source": "folder", "path": str(encoder)}},
        "corpora": {"source": "mini", "limits": {"train": 60, "validation": 16, "test": 16}},
        "seeds": [13],
        "evaluation": {"together": 2},
        "training": {"epochs": 1, "batch_size": 8, "dropout": 0.0},
        "methods": {"fine_tuning": {"learning_rates": [2e-3]}, "prompt_tuning": {"prompt_lengths": [2]}},
        "tasks": {
            "mood": {
                "file": file,
                "train_on": ["en", "de", "en+de"],
                "max_length": 24,
                "methods": {"fine_tuning": {"epochs": 12}},
            },
            "xquad": {
                "languages": ["en"],
                "max_length": 64,
                "stride": 16,
                "limits": {"train": 8, "validation": 4, "test": 4},
            },
        },
    }
