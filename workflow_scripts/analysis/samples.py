"""Samples: pairs of sentences that are translations of one another, their labels and their vectors in a model.

Which they are must not depend on the languages of a grid, or a language that is added would change the work of all
others. So each language's file holds the *candidates* that it has, chosen on the English ids alone, and what is
compared is what all languages share of them.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.files import written
from workflow_scripts.experiment.names import vectors_file
from workflow_scripts.experiment.step import recorded_files

# More candidates than samples: of PAWS-X's 2,000 pairs 58 lack a translation in German, Spanish or Chinese, and every
# further language loses some.
MARGIN = 1.2

DESCRIPTION = ("ids", "labels", "untranslated")  # what the metadata of a file of vectors holds


@dataclass(frozen=True)
class Vectors:
    """The candidates of one language.

    Attributes:
        ids: of the rows.
        labels: their gold labels in this language.
        values: (rows, width), float32.
        untranslated: labels of candidates that have no text in this language, by id; they have no vector.
    """

    ids: list[str]
    labels: list[str]
    values: np.ndarray
    untranslated: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Samples:
    """What all languages share, in one order.

    Attributes:
        ids: of the samples.
        labels: by language, (samples,) of text.
        vectors: by language, (samples, width), float64.
        disagreeing: candidates whose languages disagree about the label, translated or not: id -> language -> label.
        missing: by language, how many candidates of English have no vector in it.
    """

    ids: list[str]
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    disagreeing: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)


def shuffled(ids: Iterable[str]) -> list[str]:
    """The ids in an order that looks random and depends on nothing but each id."""
    return sorted(ids, key=lambda identity: hashlib.sha256(identity.encode()).digest())


def candidates(english_ids: Iterable[str], samples: int) -> set[str]:
    """The ids from which `samples` are taken."""
    return set(shuffled(english_ids)[: math.ceil(MARGIN * samples)])


def write_vectors(path: Path, vectors: Vectors) -> None:
    """Write safetensors with one tensor, `vectors`; what it is of stands in the metadata as JSON."""
    from safetensors.numpy import save_file

    metadata = {name: json.dumps(getattr(vectors, name)) for name in DESCRIPTION}
    with written(path) as temporary:
        save_file({"vectors": vectors.values.astype(np.float32)}, temporary, metadata=metadata)


def read_vectors(path: Path) -> Vectors:
    """Read what `write_vectors` wrote. Raises UserError that names the file when it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            described = {name: json.loads(metadata[name]) for name in DESCRIPTION}
            return Vectors(values=file.get_tensor("vectors"), **described)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete {path.parent}.json and run again") from error


def read_records(records: Sequence[Path], settings: Mapping[str, Any]) -> Samples:
    """The samples of one model, from the records of `represent`.

    Settings: `languages` (English first), `samples`, `disagreeing`.
    """
    files = recorded_files(records, vectors_file)
    found = {language: read_vectors(files[language]) for language in settings["languages"]}
    return join(found, settings["samples"], keep=settings["disagreeing"] == "keep")


def join(found: Mapping[str, Vectors], samples: int, keep: bool = False) -> Samples:
    """The first `samples` candidates, in the order of `shuffled`, that every language has.

    Args:
        found: by language, English first.
        samples: the most that are taken.
        keep: whether candidates with different labels in different languages are taken, too.
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
