"""A picture of the vectors of several languages in the plane, with a boundary a language (paper, figure 2).

What is near in the space is near in the picture; distances and angles mean nothing. The numbers are in `boundaries`.
"""

import numpy as np

PERPLEXITY = 30.0  # scikit-learn's default
RANDOM_STATE = 0
RESOLUTION = 1e-6  # vectors that differ by less than this share of their size differ by float32's rounding alone


def plane(vectors: np.ndarray) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton 2008) of all vectors together: (points, width) -> (points, 2).

    The same vectors give the same picture: it starts from their first principal components. Those of a model that has
    collapsed, and gives every text the same vector, are one point; scikit-learn would crash on them.
    """
    if np.ptp(vectors, axis=0).max() <= RESOLUTION * np.abs(vectors).max():
        return np.zeros((len(vectors), 2))
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    return TSNE(init="pca", perplexity=perplexity, random_state=RANDOM_STATE, n_jobs=1).fit_transform(vectors)


def boundary(points: np.ndarray, labels: np.ndarray) -> tuple[float, float, float] | None:
    """The line x_weight x + y_weight y + intercept = 0 between two labels; None where nothing tells them apart.

    points: (points, 2). The weights have length 1 and point to the label that sorts last.
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
