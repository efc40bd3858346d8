"""Decision boundaries: what figure 2 of the paper shows, measured in the full vector space.

The boundaries are those of a logistic regression on vectors that are standardised with English's mean and standard
deviation. The results involve no projection and no randomness.
"""

from typing import Any

import numpy as np

FOLDS = 5
# The regression minimises mean loss + |w|^2 / (2 STRENGTH), whatever the number of samples. A weaker penalty fits
# noise: between two halves of 200 English samples (384 coordinates, two models) the boundary turned by 6 and 18 degrees
# with 0.01, by 59 and 58 with 1, at the same accuracy. Both labels have equal weight; with so strong a penalty the
# classifier would otherwise always predict the more frequent one.
STRENGTH = 0.01


def standardise(english: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Standardise `others` with the mean and standard deviation of `english`, both (samples, width).

    A coordinate that is constant in English is only centred.
    """
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit(english).transform(others)


def boundary_normal(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the normal vector of the boundary between two labels, (width,); zeros if all samples are equal."""
    return _fit(vectors, labels).coef_[0]


def angle(first: np.ndarray, second: np.ndarray) -> float:
    """Return the angle between two vectors in degrees, 0 to 180."""
    # Accurate near 0 too, unlike the arc cosine (Kahan 2006, "How futile are mindless assessments of roundoff").
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(first - second), np.linalg.norm(first + second))))


def fold_count(labels: np.ndarray) -> int:
    """Return the number of cross-validation folds; 0 unless there are two labels with at least two samples each."""
    counts = np.unique(labels, return_counts=True)[1]
    return min(FOLDS, int(counts.min())) if len(counts) == 2 and counts.min() >= 2 else 0


def boundary_angles(vectors: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the angle between each language's own boundary and English's, in degrees.

    Args:
        vectors: by language, English first: (samples, width).
        labels: by language, (samples,).

    Languages without two labels, or whose vectors are all equal, are left out.
    """
    english, *others = vectors
    if not fold_count(labels[english]):
        return {}
    normals = {
        language: boundary_normal(standardise(vectors[english], values), labels[language])
        for language, values in vectors.items()
        if fold_count(labels[language])
    }
    directed = {language: vector for language, vector in normals.items() if vector.any()}
    if english not in directed:
        return {}
    return {language: angle(directed[english], directed[language]) for language in others if language in directed}


def split_half_angle(vectors: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the angle in degrees between the boundaries of two halves of one language's samples; None without them.

    This is the noise level for angles between languages. Near 90 degrees the vectors carry no information about the
    label, and the direction of a boundary is random. Angles between languages can be smaller, since their boundaries
    are fitted to the full set of parallel samples.

    Args:
        vectors: (samples, width).
        labels: (samples,).
    """
    from sklearn.model_selection import StratifiedKFold

    if not fold_count(labels):
        return None
    scaled = standardise(vectors, vectors)
    halves = next(StratifiedKFold(2).split(scaled, labels))
    first, second = (boundary_normal(scaled[half], labels[half]) for half in halves)
    return angle(first, second) if first.any() and second.any() else None


def transfer_accuracy(vectors: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the accuracy in percent, by language, of a classifier that is fitted on English vectors.

    Cross-validated: each fold, in all languages, is predicted by the classifier that was fitted on the other folds. So
    no classifier has seen a sample or its translation, and English can be compared with the other languages. Arguments
    as for `boundary_angles`; empty if English has no two labels with two samples each.
    """
    from sklearn.model_selection import StratifiedKFold

    english = next(iter(vectors))
    if not fold_count(labels[english]):
        return {}
    right = dict.fromkeys(vectors, 0)
    for fitted, held_out in StratifiedKFold(fold_count(labels[english])).split(vectors[english], labels[english]):
        known = vectors[english][fitted]
        classifier = _fit(standardise(known, known), labels[english][fitted])
        for language, values in vectors.items():
            judged = classifier.predict(standardise(known, values[held_out]))
            right[language] += int(np.sum(judged == labels[language][held_out]))
    return {language: 100 * count / len(vectors[english]) for language, count in right.items()}


def _fit(vectors: np.ndarray, labels: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=STRENGTH / len(vectors), class_weight="balanced", tol=1e-6, max_iter=10_000).fit(
        vectors, labels
    )
