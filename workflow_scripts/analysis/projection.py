"""A two-dimensional projection of vectors of several languages, with one boundary per language (paper, figure 2).

It preserves neighbourhoods only: distances and angles in it have no meaning. For measurements see `boundaries`.
"""

import numpy as np

PERPLEXITY = 30.0  # scikit-learn's default
RANDOM_STATE = 0
RESOLUTION = 1e-6  # relative to the largest value; smaller differences are float32 rounding errors


def project(vectors: np.ndarray) -> np.ndarray:
    """Project all vectors together by t-SNE (van der Maaten and Hinton 2008): (points, width) -> (points, 2).

    Deterministic, since it is initialised with the first principal components. If all vectors are equal, as in a
    collapsed model, the points are all (0, 0); scikit-learn would crash.
    """
    if np.ptp(vectors, axis=0).max() <= RESOLUTION * np.abs(vectors).max():
        return np.zeros((len(vectors), 2))
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    return TSNE(init="pca", perplexity=perplexity, random_state=RANDOM_STATE, n_jobs=1).fit_transform(vectors)


def boundary(points: np.ndarray, labels: np.ndarray) -> tuple[float, float, float] | None:
    """Fit the line x_weight x + y_weight y + intercept = 0 that separates two labels.

    Args:
        points: (points, 2).
        labels: (points,).

    Returns (x_weight, y_weight, intercept). The weights have length 1 and point towards the label that sorts last. None
    unless there are exactly two labels, or if the points do not separate them at all.
    """
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) != 2:
        return None
    fitted = LogisticRegression(max_iter=10_000).fit(points, labels)
    if not fitted.coef_.any():
        return None
    weights = np.array([*fitted.coef_[0], *fitted.intercept_])
    x_weight, y_weight, intercept = map(float, weights / np.linalg.norm(weights[:2]))
    return x_weight, y_weight, intercept
