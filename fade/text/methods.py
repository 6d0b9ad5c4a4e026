"""How each of the nine classifiers is fitted, and how it predicts from plain arrays.

Source of the formulas: the official implementation of FADE (arXiv 2409.00556).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError, counted
from fade.text.trees import (
    fit_rf,
    fit_xgboost,
    predict_rf,
    predict_xgboost,
    tree_problem,
    width_trees,
)
from fade.text.types import (
    COMPONENTS,
    LOGIT_SCALE,
    MLP_MIN_PROMPTS,
    NEIGHBOURS,
    SEED,
    SIDES,
    Arrays,
    Float64,
    Floats,
    from_abnormal,
    from_margin,
)


def _logsumexp(terms: Floats) -> Floats:
    """Log of the sum of exponentials over axis 1; overwrites ``terms``."""
    peak = terms.max(axis=1, keepdims=True)
    terms -= peak
    np.exp(terms, out=terms)
    result: Floats = peak[:, 0] + np.log(terms.sum(axis=1))
    return result


def _fit_average(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    return {"normal": x[y == 0].mean(axis=0), "abnormal": x[y == 1].mean(axis=0)}


def _predict_average(arrays: Arrays, x: Floats) -> Float64:
    """Softmax of 100 x the dot products with the two means, which are not renormalised."""
    return from_margin(x @ (LOGIT_SCALE * (arrays["abnormal"] - arrays["normal"])))


def _fit_prompts(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    return {"normal": x[y == 0], "abnormal": x[y == 1]}


def _predict_softmax(arrays: Arrays, x: Floats) -> Float64:
    """Softmax over all prompts at 100 x cosine, summed per label."""
    normal, abnormal = (_logsumexp(x @ (LOGIT_SCALE * arrays[side]).T) for side in SIDES)
    return from_margin(abnormal - normal)


def _predict_max(arrays: Arrays, x: Floats) -> Float64:
    """Softmax of each label's best 100 x cosine."""
    normal, abnormal = ((x @ arrays[side].T).max(axis=1) for side in SIDES)
    return from_margin(LOGIT_SCALE * (abnormal - normal))


def _width_prompts(arrays: Arrays) -> int:
    return max(len(arrays["normal"]), len(arrays["abnormal"]))


def _fit_lr(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(solver="liblinear", random_state=SEED).fit(x, y)
    return {"weights": model.coef_[0], "bias": model.intercept_[0:1]}


def _predict_lr(arrays: Arrays, x: Floats) -> Float64:
    return from_margin(x @ arrays["weights"] + arrays["bias"])


def _fit_mlp(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        hidden_layer_sizes=(640,), max_iter=200, early_stopping=True, random_state=SEED
    )
    with warnings.catch_warnings():
        # 200 iterations are the method's choice, converged or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    (hidden, output), (hidden_bias, output_bias) = model.coefs_, model.intercepts_
    return {
        "hidden": hidden,
        "hidden_bias": hidden_bias,
        "output": output[:, 0],
        "output_bias": output_bias,
    }


def _predict_mlp(arrays: Arrays, x: Floats) -> Float64:
    hidden = x @ arrays["hidden"]
    hidden += arrays["hidden_bias"]
    np.maximum(hidden, 0.0, out=hidden)
    return from_margin(hidden @ arrays["output"] + arrays["output_bias"])


def _fit_knn(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    return {"prompts": x / np.linalg.norm(x, axis=1, keepdims=True), "labels": y}


def _predict_knn(arrays: Arrays, x: Floats) -> Float64:
    """The nearest prompts vote with 1 / cosine distance; those at distance 0 vote alone."""
    distances = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ arrays["prompts"].T
    np.subtract(1.0, distances, out=distances)
    np.clip(distances, 0.0, 2.0, out=distances)
    nearest = np.argpartition(distances, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    distances = np.take_along_axis(distances, nearest, axis=1)
    touching = distances == 0.0
    weights = np.where(
        touching.any(axis=1, keepdims=True), touching, 1.0 / np.where(touching, 1.0, distances)
    )
    votes = weights * arrays["labels"][nearest]
    return from_abnormal(votes.sum(axis=1) / weights.sum(axis=1))


def _knn_problem(arrays: Arrays) -> str | None:
    labels = arrays["labels"]
    if len(labels) < NEIGHBOURS or not np.isin(labels, (0, 1)).all():
        return f"its labels are not {NEIGHBOURS} or more of 0 and 1"
    return None


def _fit_gmm(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    arrays = {}
    for label, side in enumerate(SIDES):
        distinct = len(np.unique(x[y == label], axis=0))
        if distinct < COMPONENTS:
            raise DataError(
                f"gmm classifier: {counted(distinct, f'different {side} prompt')}, it needs at least "
                f"{COMPONENTS}: add prompts or choose another classifier"
            )
        for key, array in _fit_density(x[y == label]).items():
            arrays[f"{side}_{key}"] = array
    return arrays


def _fit_density(x: Float64) -> dict[str, np.ndarray]:
    """PCA to 0.9 of the variance, then a mixture of spherical Gaussians.

    ``log_scale`` is each component's log weight and log normalising factor.
    """
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        pca = PCA(n_components=0.9, random_state=SEED)
        reduced = pca.fit_transform(x)
        mixture = GaussianMixture(COMPONENTS, covariance_type="spherical", random_state=SEED)
        mixture.fit(reduced)
    precisions = 1.0 / mixture.covariances_
    volume = 0.5 * reduced.shape[1] * np.log(precisions / (2 * np.pi))
    return {
        "axes": pca.components_,
        "offset": pca.components_ @ pca.mean_,
        "means": mixture.means_,
        "precisions": precisions,
        "log_scale": np.log(mixture.weights_) + volume,
    }


def _predict_gmm(arrays: Arrays, x: Floats) -> Float64:
    """Softmax of the two log-likelihoods."""
    return from_margin(
        _log_likelihood(arrays, "abnormal", x) - _log_likelihood(arrays, "normal", x)
    )


def _log_likelihood(arrays: Arrays, side: str, x: Floats) -> Floats:
    means = arrays[f"{side}_means"]
    reduced = x @ arrays[f"{side}_axes"].T - arrays[f"{side}_offset"]
    squares = (
        (reduced**2).sum(axis=1, keepdims=True) + (means**2).sum(axis=1) - 2 * reduced @ means.T
    )
    return _logsumexp(arrays[f"{side}_log_scale"] - 0.5 * arrays[f"{side}_precisions"] * squares)


def _width_gmm(arrays: Arrays) -> int:
    return 3 * max(len(arrays["normal_axes"]), len(arrays["abnormal_axes"]), COMPONENTS)


@dataclass(frozen=True)
class TextMethod:
    """How one classifier is fitted and applied.

    Attributes:
        fit: (m, D) float64 and (m,) labels -> the arrays.
        predict: the arrays and (b, D) embeddings in ``precision`` -> (b, 2).
        shapes: by name the shapes of the arrays, a letter an axis: D is the dimension, 1 is one, any
            other letter the same number in all arrays of a classifier.
        width: numbers that a row needs while it is predicted, besides the row itself.
        precision: what predictions are computed in; "input" is float64 for float64, else float32.
        least: prompts needed in all, and of each label.
        problem: what else is wrong with arrays that a file holds, if anything.
    """

    fit: Callable[[Float64, NDArray[np.int64]], dict[str, np.ndarray]]
    predict: Callable[[Arrays, Floats], Float64]
    shapes: Mapping[str, str]
    width: Callable[[Arrays], int]
    precision: Literal["input", "float32", "float64"] = "float64"
    least: tuple[int, int] = (2, 1)
    problem: Callable[[Arrays], str | None] = lambda _: None


INTEGERS = ("labels", "roots", "children", "feature")
"""Arrays of int64; all others are floats."""


_MEANS = dict.fromkeys(SIDES, "D")


_PROMPTS = {"normal": "nD", "abnormal": "mD"}


_TREES = {"roots": "t", "children": "c", "feature": "n", "threshold": "n", "value": "n"}


_DENSITY = {
    f"{side}_{key}": shape
    for side, axes in zip(SIDES, "ab", strict=True)
    for key, shape in (
        ("axes", f"{axes}D"), ("offset", axes), ("means", f"k{axes}"), ("precisions", "k"),
        ("log_scale", "k"),
    )
}  # fmt: skip


METHODS = {
    "average": TextMethod(_fit_average, _predict_average, _MEANS, lambda _: 1, "input"),
    "softmax": TextMethod(_fit_prompts, _predict_softmax, _PROMPTS, _width_prompts, "input"),
    "max": TextMethod(_fit_prompts, _predict_max, _PROMPTS, _width_prompts, "input"),
    "lr": TextMethod(_fit_lr, _predict_lr, {"weights": "D", "bias": "1"}, lambda _: 1),
    "mlp": TextMethod(
        _fit_mlp,
        _predict_mlp,
        {"hidden": "Dh", "hidden_bias": "h", "output": "h", "output_bias": "1"},
        lambda arrays: len(arrays["output"]),
        least=(MLP_MIN_PROMPTS, 2),
    ),
    "knn": TextMethod(
        _fit_knn,
        _predict_knn,
        {"prompts": "mD", "labels": "m"},
        lambda arrays: 2 * len(arrays["labels"]),
        least=(NEIGHBOURS, 1),
        problem=_knn_problem,
    ),
    "rf": TextMethod(fit_rf, predict_rf, _TREES, width_trees, "float32", problem=tree_problem),
    "xgboost": TextMethod(
        fit_xgboost,
        predict_xgboost,
        _TREES | {"base": "1"},
        width_trees,
        "float32",
        problem=tree_problem,
    ),
    "gmm": TextMethod(
        _fit_gmm,
        _predict_gmm,
        _DENSITY,
        _width_gmm,
        least=(2 * COMPONENTS, COMPONENTS),
    ),
}


CLASSIFIERS = tuple(METHODS)
"""Names of the nine classifiers."""
