"""Samples: texts that exist in all languages, with their labels and their vectors in a model.

The choice must not depend on the grid's languages: otherwise adding a language would rerun the jobs of all others. So
each language's file contains the language's *candidates*, which are chosen by the English ids alone, and the samples
are the candidates that all languages share.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from workflow_scripts.core.files import unreadable, written
from workflow_scripts.core.names import vectors_file
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.step import recorded_files

# Candidates per sample. Some lack a translation: 58 of PAWS-X's 2,000 pairs in German, Spanish or Chinese, and more
# with every further language.
MARGIN = 1.2

DESCRIPTION = ("ids", "labels", "untranslated")  # the fields of `Vectors` in a file's metadata


class SampleSettings(StepSettings):
    """Which texts the analysis compares.

    Attributes:
        languages: English first.
        samples: the most samples.
        disagreeing: what to do with texts whose label differs between languages.
    """

    languages: list[str]
    samples: int
    disagreeing: Literal["leave_out", "keep"]


@dataclass(frozen=True)
class Vectors:
    """The candidates of one language.

    Attributes:
        ids: the rows' ids.
        labels: the rows' gold labels in this language.
        values: the vectors, (rows, width), float32.
        untranslated: labels by id of the candidates without a text in this language; they have no vector.
    """

    ids: list[str]
    labels: list[str]
    values: np.ndarray
    untranslated: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Samples:
    """The samples that all languages share, in the same order for all.

    Attributes:
        ids: the samples' ids.
        labels: by language, an array of strings (samples,).
        vectors: by language, float64 (samples, width).
        disagreeing: candidates whose label differs between languages: id -> language -> label.
        missing: by language, the number of English candidates without a vector in it.
    """

    ids: list[str]
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    disagreeing: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)

    def not_finite(self) -> dict[str, int]:
        """By language, the number of samples whose vector contains NaN or infinity, as from a diverged model."""
        counts = {name: int(np.sum(~np.isfinite(values).all(axis=1))) for name, values in self.vectors.items()}
        return {name: count for name, count in counts.items() if count}


def shuffled(ids: Iterable[str]) -> list[str]:
    """Return the ids in a pseudo-random order that depends on the ids alone."""
    return sorted(ids, key=lambda identity: hashlib.sha256(identity.encode()).digest())


def candidates(english_ids: Iterable[str], samples: int) -> set[str]:
    """Return the ids of the candidates from which `samples` samples are chosen."""
    return set(shuffled(english_ids)[: math.ceil(MARGIN * samples)])


def write_vectors(path: Path, vectors: Vectors) -> None:
    """Write a safetensors file with the tensor `vectors` and the other fields as JSON in its metadata."""
    from safetensors.numpy import save_file

    metadata = {name: json.dumps(getattr(vectors, name)) for name in DESCRIPTION}
    with written(path) as temporary:
        save_file({"vectors": vectors.values.astype(np.float32)}, temporary, metadata=metadata)


def read_vectors(path: Path) -> Vectors:
    """Read what `write_vectors` wrote. Raises UserError, naming the file, if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            described = {name: json.loads(metadata[name]) for name in DESCRIPTION}
            return Vectors(values=file.get_tensor("vectors"), **described)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise unreadable(path, f"{path} cannot be read ({error}): delete {path.parent}.json and run again") from error


def read_records(records: Sequence[Path], settings: SampleSettings) -> Samples:
    """Return the samples of one model from the records of the step `represent`.

    Raises UserError if a file is missing or damaged.
    """
    files = recorded_files(records, vectors_file)
    found = {language: read_vectors(files[language]) for language in settings.languages}
    return select_samples(found, settings.samples, keep=settings.disagreeing == "keep")


def select_samples(found: Mapping[str, Vectors], samples: int, keep: bool = False) -> Samples:
    """Choose the first candidates, in the order of `shuffled`, that every language has.

    Args:
        found: the candidates by language, English first.
        samples: the most samples to choose.
        keep: whether to include candidates whose label differs between languages.
    """
    first = next(iter(found.values()))
    labels = {name: dict(zip(one.ids, one.labels, strict=True)) | one.untranslated for name, one in found.items()}
    rows = {name: {identity: row for row, identity in enumerate(one.ids)} for name, one in found.items()}
    disagreeing = {}
    shared = []
    for identity in shuffled([*first.ids, *first.untranslated]):
        by_language = {name: known[identity] for name, known in labels.items() if identity in known}
        agree = len(set(by_language.values())) == 1
        if not agree:
            disagreeing[identity] = by_language
        if (agree or keep) and all(identity in of_language for of_language in rows.values()):
            shared.append(identity)
    del shared[samples:]
    return Samples(
        ids=shared,
        labels={name: np.array([known[identity] for identity in shared]) for name, known in labels.items()},
        vectors={
            name: one.values[[rows[name][identity] for identity in shared]].astype(np.float64)
            for name, one in found.items()
        },
        disagreeing=disagreeing,
        missing={name: len(first.ids) - len(set(first.ids) & set(one.ids)) for name, one in found.items()},
    )
