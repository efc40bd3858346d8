"""The distance of two languages, from public databases of grammar and ancestry.

The data is that of URIEL (Littell et al. 2017), which urielplus includes (CC BY-SA 4.0): for syntax WALS, SSWL and
Ethnologue, for ancestry Glottolog. The tables are read as files, because importing that package sets up logging. The
distance is that of URIEL+ (Khan et al. 2025): the angle between the vectors of the features that are known for both
languages, from 0 to 1 (a right angle). A feature counts as present if any source says so.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from workflow_scripts.core.languages import is_known

SYNTACTIC, GENETIC = "syntactic", "genetic"
TABLES = {SYNTACTIC: ("features.npz", "S_"), GENETIC: ("family_features.npz", "")}  # a file, and how its features begin
FEWEST_FEATURES = 20  # known of both languages; of the family tree all branches are


def distance(kind: str, code: str, other: str) -> float | None:
    """The distance of two languages by their BCP 47 codes; None if too little is known about one of them."""
    first, second = _vector(kind, code), _vector(kind, other)
    if first is None or second is None:
        return None
    shared = (first >= 0) & (second >= 0)
    if shared.sum() < FEWEST_FEATURES:
        return None
    first, second = first[shared], second[shared]
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    if not lengths:
        return None
    cosine = float(first @ second) / lengths
    return float(2 * np.arccos(np.clip(cosine, -1, 1)) / np.pi)


@cache
def _vector(kind: str, code: str) -> np.ndarray | None:
    """The features of a language, -1 where unknown: of the code or its macrolanguage, whichever has more."""
    numbers, features = _table(kind)
    vectors = [features[numbers[name]].astype(float) for name in _names(code) if name in numbers]
    # A language without any branch of the family tree is not in it: `ekk` (Standard Estonian), but `est` is.
    known = [vector for vector in vectors if vector.max() > 0]
    return max(known, key=lambda vector: int((vector >= 0).sum()), default=None)


def _names(code: str) -> Sequence[str]:
    """The ISO 639-3 codes of a language and of its macrolanguage."""
    from langcodes import Language as Tag
    from langcodes.data_dicts import MACROLANGUAGES

    if not is_known(code):
        return ()
    name = Tag.get(code, normalize=False).language or ""
    whole = MACROLANGUAGES.get(Tag.make(name).to_alpha3())
    return [Tag.make(part).to_alpha3() for part in (name, whole) if part]


@cache
def _table(kind: str) -> tuple[dict[str, int], np.ndarray]:
    """The row of each language, and the features, (languages, features), aggregated over sources."""
    from importlib.metadata import distribution

    file, prefix = TABLES[kind]
    path = Path(str(distribution("urielplus").locate_file(f"urielplus/database/original_uriel/{file}")))
    with np.load(path, allow_pickle=False) as content:
        columns = [place for place, name in enumerate(content["feats"]) if str(name).startswith(prefix)]
        values = content["data"][:, columns].max(-1)
        return {str(name): place for place, name in enumerate(content["langs"])}, values
