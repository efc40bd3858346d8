"""Decision boundaries: what figure 2 of the paper shows to the eye, as numbers in the full space of the vectors.

The boundaries are a logistic regression's on vectors in one common scale: each coordinate less its English mean, over
its English deviation. None of it depends on a picture or a random number.
"""

from typing import Any

import numpy as np

FOLDS = 5
# The regression minimises its mean loss + |w|^2 / (2 STRENGTH), whatever the number of samples. A weak penalty fits
# noise: of 200 samples of the mini benchmark in 384 coordinates, in models tuned on PAWS-X, the boundaries of two
# English halves stand at 6 and 18 degrees with 0.01, at 21 and 28 with 0.1, at 59 and 58 with 1; accuracy is the same.
# Both labels weigh alike, or so strong a penalty would make every guess the more frequent one.
STRENGTH = 0.01


def english_scale(english: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`others` in English's scale; a coordinate that is the same in all English vectors stays as it is."""
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit(english).transform(others)


def normal(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The vector that the boundary of two labels is perpendicular to: (width,); zeros where all samples are equal."""
    return _fitted(vectors, labels).coef_[0]


def angle(first: np.ndarray, second: np.ndarray) -> float:
    """The angle between two vectors in degrees, 0 to 180."""
    # Exact near 0 too, where the arc cosine is not (Kahan 2006, "How futile are mindless assessments of roundoff").
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(first - second), np.linalg.norm(first + second))))


def folds(labels: np.ndarray) -> int:
    """In how many parts the samples are cut; 0 where there are not two labels with two samples each."""
    counts = np.unique(labels, return_counts=True)[1]
    return min(FOLDS, int(counts.min())) if len(counts) == 2 and counts.min() >= 2 else 0


def boundary_angles(vectors: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> dict[str, float]:
    """The angle between each language's own boundary and English's, in degrees.

    Args:
        vectors: by language, English first: (samples, width).
        labels: by language, (samples,).

    A language without two labels, or whose vectors are all the same, is left out.
    """
    english, *others = vectors
    if not folds(labels[english]):
        return {}
    normals = {
        language: normal(english_scale(vectors[english], values), labels[language])
        for language, values in vectors.items()
        if folds(labels[language])
    }
    directed = {language: vector for language, vector in normals.items() if vector.any()}
    if english not in directed:
        return {}
    return {language: angle(directed[english], directed[language]) for language in others if language in directed}


def split_half_angle(vectors: np.ndarray, labels: np.ndarray) -> float | None:
    """The angle between the boundaries of two halves of one language's samples, in degrees; None without boundaries.

    What angles between languages are to be held against: near 90 the vectors tell nothing about the label, and a
    boundary has no direction of its own. The languages' angle can be the smaller one, since their boundaries come from
    the same, whole set of samples.
    """
    from sklearn.model_selection import StratifiedKFold

    if not folds(labels):
        return None
    scaled = english_scale(vectors, vectors)
    halves = next(StratifiedKFold(2).split(scaled, labels))
    first, second = (normal(scaled[half], labels[half]) for half in halves)
    return angle(first, second) if first.any() and second.any() else None


def transfer_accuracy(vectors: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> dict[str, float]:
    """Accuracy (percent) in each language of a classifier that is fitted on English vectors.

    Every sample is judged by a classifier that saw neither it nor its translations: the samples are cut into parts,
    and each part, in all languages, is judged by the classifier of the other parts. So English can be compared with
    the others. Arguments as of `boundary_angles`.
    """
    from sklearn.model_selection import StratifiedKFold

    english = next(iter(vectors))
    if not folds(labels[english]):
        return {}
    right = dict.fromkeys(vectors, 0)
    for fitted, held_out in StratifiedKFold(folds(labels[english])).split(vectors[english], labels[english]):
        known = vectors[english][fitted]
        classifier = _fitted(english_scale(known, known), labels[english][fitted])
        for language, values in vectors.items():
            judged = classifier.predict(english_scale(known, values[held_out]))
            right[language] += int(np.sum(judged == labels[language][held_out]))
    return {language: 100 * count / len(vectors[english]) for language, count in right.items()}


def _fitted(vectors: np.ndarray, labels: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=STRENGTH / len(vectors), class_weight="balanced", tol=1e-6, max_iter=10_000).fit(
        vectors, labels
    )
