"""Nine text classifiers: from embedded prompts to P(normal) and P(abnormal) of image embeddings.

Fitting uses scikit-learn or xgboost; a fitted classifier is nothing but named arrays, and predicts
in plain numpy. Source: Li, Ivanova, Bruveris, "FADE: Few-shot/zero-shot Anomaly Detection Engine
using Large Vision-Language Model", BMVC 2024, arXiv 2409.00556, and its official implementation.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError, ParameterError, StoreError

Arrays = Mapping[str, np.ndarray]
Floats = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]

SCHEMA_VERSION = 1
_SIDES = ("normal", "abnormal")
LOGIT_SCALE = 100.0
"""Factor on cosines before a softmax: CLIP's own temperature."""
SEED = 42
NEIGHBOURS = 5
COMPONENTS = 10
MLP_MIN_PROMPTS = 11
"""Early stopping holds back a tenth of the prompts and needs two of them."""
NORM_TOLERANCE = 0.01
BLOCK_BYTES = 2**23
"""Size of the temporaries that one block of rows may need: small enough to stay in a cache."""


@dataclass(frozen=True, eq=False)
class TextClassifier:
    """A fitted classifier.

    Attributes:
        name: one of :data:`CLASSIFIERS`.
        arrays: everything that a prediction needs, as plain arrays.
    """

    name: str
    arrays: dict[str, np.ndarray]

    @property
    def dimension(self) -> int:
        """Length D of the embeddings that it was fitted on."""
        return int(self.arrays["dimension"])

    def predict_proba(self, x: np.ndarray) -> Float64:
        """Class probabilities of image embeddings, block by block in bounded memory.

        Args:
            x: (n, D) float16, float32 or float64, each row L2-normalised. ``average``, ``softmax``
                and ``max`` compute in float32 unless x is float64.

        Returns:
            (n, 2) float64: P(normal), P(abnormal).

        Raises:
            DataError: another shape or type, NaN or infinity, rows that are not normalised.
        """
        if x.ndim != 2 or x.shape[1] != self.dimension or x.dtype.kind != "f":
            raise DataError(
                f"{self.name} classifier: image embeddings are {x.dtype} of shape {x.shape}, "
                f"expected floats of shape (n, {self.dimension})"
            )
        method = _METHODS[self.name]
        arrays: Arrays = self.arrays
        if method.precision == "input":
            dtype = np.dtype(np.float64 if x.dtype.itemsize >= 8 else np.float32)
            arrays = {key: value.astype(dtype, copy=False) for key, value in arrays.items()}
        else:
            dtype = np.dtype(method.precision)
        result = np.empty((len(x), 2), dtype=np.float64)
        width = self.dimension + method.width(arrays)
        rows = max(1, BLOCK_BYTES // (width * dtype.itemsize))
        for start in range(0, len(x), rows):
            block = x[start : start + rows].astype(dtype, copy=False)
            _require_unit_rows(block, f"{self.name} classifier: image embedding", start)
            result[start : start + rows] = method.predict(arrays, block)
        return result


def fit(name: str, x: np.ndarray, y: np.ndarray) -> TextClassifier:
    """Fit one classifier on prompt embeddings; the settings are the official ones.

    Args:
        name: one of :data:`CLASSIFIERS`.
        x: (m, D) prompt embeddings, each row L2-normalised; handled as float64.
        y: (m,) labels, 0 = normal, 1 = abnormal; both must occur.

    Raises:
        ParameterError: unknown name, or the package that it needs is not installed.
        DataError: wrong shapes, NaN or infinity, one label only, too few prompts.
    """
    if name not in _METHODS:
        raise ParameterError(f"text classifier {name!r} is unknown: choose {', '.join(_METHODS)}")
    prompts, labels = _checked_prompts(name, x, y)
    dimension = np.array(prompts.shape[1], np.int64)
    return TextClassifier(name, {"dimension": dimension, **_METHODS[name].fit(prompts, labels)})


def save(classifier: TextClassifier, path: Path) -> None:
    """Write a classifier as an ``.npz`` file; equal classifiers give equal bytes."""
    path = Path(path)
    entries: dict[str, Any] = {
        "schema_version": np.array(SCHEMA_VERSION, np.int64),
        "name": np.array(classifier.name),
        **dict(sorted(classifier.arrays.items())),
    }
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, **entries)
        part.replace(path)
    except OSError as error:  # a full disk does not say which file
        error.filename = error.filename or str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def load(path: Path) -> TextClassifier:
    """Read what :func:`save` wrote.

    Raises:
        StoreError: the file is missing, damaged, no text classifier, or of another schema version.
    """
    try:
        return loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"text classifier {path} is missing or damaged ({error}): run the text stage again"
        ) from error


def loads(data: bytes) -> TextClassifier:
    """A classifier from the bytes of a file that :func:`save` wrote.

    Raises:
        ValueError: it is damaged, no text classifier, of another schema version, or an array has
            not the type, shape or numbers that a prediction needs; the message says which.
    """
    arrays = _read_archive(data)
    version, name = arrays.pop("schema_version", None), arrays.pop("name", None)
    if version is None or name is None or version.ndim or name.ndim:
        raise ValueError("it is not a text classifier")
    if version != SCHEMA_VERSION:
        raise ValueError(f"it has schema version {version}, this code reads {SCHEMA_VERSION}")
    method = _METHODS.get(str(name))
    if method is None or set(arrays) != {"dimension", *method.shapes}:
        raise ValueError(f"{name} holds other arrays than this code reads")
    _check_arrays(method, arrays)
    return TextClassifier(str(name), arrays)


def read_array(data: bytes) -> np.ndarray:
    """The array in the bytes of an ``.npy`` file; no memory is taken before they are enough for it.

    Raises:
        ValueError: they are no array, more or fewer than its header tells, or Python objects.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0
        }[version]  # fmt: skip
        shape, _, dtype = read_header(file)
    except Exception as error:  # whatever a parser of Python raises
        raise ValueError(f"no header of an array ({type(error).__name__})") from error
    told, found = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if told != found:
        raise ValueError(f"an array's header tells of {told:,} bytes, there are {found:,}")
    file.seek(0)
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _read_archive(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file that is not compressed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if any(
                entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size
                for entry in entries
            ):
                raise ValueError("it is compressed, and could unfold to any size")
            if sum(entry.file_size for entry in entries) > len(data):
                raise ValueError("its entries are longer than the file")
            return {
                entry.filename.removesuffix(".npy"): read_array(archive.read(entry))
                for entry in entries
            }
    except ValueError:
        raise
    except Exception as error:  # a damaged archive raises almost anything
        raise ValueError(str(error) or type(error).__name__) from error


def _check_arrays(method: _Method, arrays: Arrays) -> None:
    """Refuse arrays that a prediction could not use (ValueError)."""
    dimension = arrays["dimension"]
    if dimension.dtype != np.int64 or dimension.ndim or dimension < 1:
        raise ValueError(f"its dimension is {str(dimension)[:60]}")
    sizes = {"1": 1, "D": int(dimension)}
    for key, letters in method.shapes.items():
        array = arrays[key]
        types = (np.int64,) if key in _INTEGERS else (np.float32, np.float64)
        if array.dtype not in types:
            raise ValueError(f"{key} holds {array.dtype}, expected {types[-1].__name__}")
        same = array.ndim == len(letters) and all(
            sizes.setdefault(letter, size) == size
            for letter, size in zip(letters, array.shape, strict=True)
        )
        if not same or not array.size:
            raise ValueError(f"{key} has shape {array.shape}, which does not fit the other arrays")
        if not np.isfinite(array).all():
            raise ValueError(f"{key} holds NaN or infinity")
    if problem := method.problem(arrays):
        raise ValueError(problem)


def digest(classifier: TextClassifier) -> str:
    """Hex SHA-256 over the name and every array's key, type, shape and bytes."""
    content = hashlib.sha256(classifier.name.encode())
    for key, array in sorted(classifier.arrays.items()):
        content.update(f"\n{key} {array.dtype.str} {array.shape}\n".encode())
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


# Input checks


def _checked_prompts(name: str, x: np.ndarray, y: np.ndarray) -> tuple[Float64, NDArray[np.int64]]:
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or 0 in x.shape or x.dtype.kind != "f" or y.shape != x.shape[:1]:
        raise DataError(
            f"{name} classifier: prompt embeddings are {x.dtype} of shape {x.shape} with labels "
            f"of shape {y.shape}, expected floats (m, D) and (m,)"
        )
    prompts = np.ascontiguousarray(x, dtype=np.float64)
    _require_unit_rows(prompts, f"{name} classifier: prompt embedding", 0)
    if not np.isin(y, (0, 1)).all():
        raise DataError(f"{name} classifier: labels are {np.unique(y)[:5]}, expected 0 and 1")
    labels = y.astype(np.int64)
    abnormal = int(labels.sum())
    counts = (len(labels) - abnormal, abnormal)
    if 0 in counts:
        raise DataError(
            f"{name} classifier: {counts[0]} normal and {counts[1]} abnormal prompts: "
            "give at least one of each"
        )
    total, each = _METHODS[name].least
    if len(labels) < total or min(counts) < each:
        raise DataError(
            f"{name} classifier: {counts[0]} normal and {counts[1]} abnormal prompts, it needs "
            f"at least {total} in all and {each} of each: add prompts or choose another classifier"
        )
    return prompts, labels


def _require_unit_rows(x: Floats, what: str, start: int) -> None:
    squares = np.einsum("ij,ij->i", x, x)
    # Also false for NaN.
    good = np.abs(squares - 1) <= 2 * NORM_TOLERANCE
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(
            f"{what} {start + row} has norm {np.sqrt(squares[row]):.6g}, expected 1 "
            f"(+- {NORM_TOLERANCE}): check the features or normalise them"
        )


# Shared formulas


def _from_margin(margin: Floats) -> Float64:
    """(b,) log odds of abnormal -> (b, 2) probabilities, exact in both tails."""
    wide = margin.astype(np.float64, copy=False)
    return np.exp(-np.logaddexp(0.0, np.stack([wide, -wide], axis=1)))


def _from_abnormal(probability: Float64) -> Float64:
    return np.stack([1.0 - probability, probability], axis=1)


def _logsumexp(terms: Floats) -> Floats:
    """Log of the sum of exponentials over axis 1; overwrites ``terms``."""
    peak = terms.max(axis=1, keepdims=True)
    terms -= peak
    np.exp(terms, out=terms)
    result: Floats = peak[:, 0] + np.log(terms.sum(axis=1))
    return result


# average, softmax, max: cosines to the prompts themselves


def _fit_average(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    return {"normal": x[y == 0].mean(axis=0), "abnormal": x[y == 1].mean(axis=0)}


def _predict_average(arrays: Arrays, x: Floats) -> Float64:
    """Softmax of 100 x the dot products with the two means, which are not renormalised."""
    return _from_margin(x @ (LOGIT_SCALE * (arrays["abnormal"] - arrays["normal"])))


def _fit_prompts(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    return {"normal": x[y == 0], "abnormal": x[y == 1]}


def _predict_softmax(arrays: Arrays, x: Floats) -> Float64:
    """Softmax over all prompts at 100 x cosine, summed per label."""
    normal, abnormal = (_logsumexp(x @ (LOGIT_SCALE * arrays[side]).T) for side in _SIDES)
    return _from_margin(abnormal - normal)


def _predict_max(arrays: Arrays, x: Floats) -> Float64:
    """Softmax of each label's best 100 x cosine."""
    normal, abnormal = ((x @ arrays[side].T).max(axis=1) for side in _SIDES)
    return _from_margin(LOGIT_SCALE * (abnormal - normal))


def _width_prompts(arrays: Arrays) -> int:
    return max(len(arrays["normal"]), len(arrays["abnormal"]))


# lr


def _fit_lr(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(solver="liblinear", random_state=SEED).fit(x, y)
    return {"weights": model.coef_[0], "bias": model.intercept_[0:1]}


def _predict_lr(arrays: Arrays, x: Floats) -> Float64:
    return _from_margin(x @ arrays["weights"] + arrays["bias"])


# mlp


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
    return _from_margin(hidden @ arrays["output"] + arrays["output_bias"])


# knn


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
    return _from_abnormal(votes.sum(axis=1) / weights.sum(axis=1))


def _knn_problem(arrays: Arrays) -> str | None:
    labels = arrays["labels"]
    if len(labels) < NEIGHBOURS or not np.isin(labels, (0, 1)).all():
        return f"its labels are not {NEIGHBOURS} or more of 0 and 1"
    return None


# rf, xgboost: decision trees


@dataclass(frozen=True)
class _Tree:
    """One tree: ``x[feature] <= threshold`` goes left; a leaf has no children (-1)."""

    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray


def _pack(trees: Iterable[_Tree]) -> dict[str, np.ndarray]:
    """All nodes of all trees in one table; a leaf's children are the leaf itself."""
    parts: dict[str, list[np.ndarray]] = {
        key: [] for key in ("roots", "children", "feature", "threshold", "value")
    }
    start = 0
    for tree in trees:
        own = np.arange(len(tree.value))
        leaf = np.asarray(tree.left) < 0
        children = np.where(leaf, own, np.stack([tree.left, tree.right])) + start
        parts["roots"].append(np.array([start]))
        parts["children"].append(children.T.ravel())
        parts["feature"].append(np.where(leaf, 0, tree.feature))
        parts["threshold"].append(np.where(leaf, np.float32(0), tree.threshold))
        parts["value"].append(tree.value)
        start += len(own)
    dtypes = {"threshold": np.float32, "value": np.float64}
    return {
        key: np.concatenate(part).astype(dtypes.get(key, np.int64)) for key, part in parts.items()
    }


def _leaf_values(arrays: Arrays, x: NDArray[np.float32]) -> Float64:
    """(b, D) -> (b, trees): the value of the leaf that each row reaches in each tree."""
    rows = np.arange(len(x))[:, None]
    nodes = np.broadcast_to(arrays["roots"], (len(x), len(arrays["roots"])))
    while True:
        right = x[rows, arrays["feature"][nodes]] > arrays["threshold"][nodes]
        following = arrays["children"][2 * nodes + right]
        if np.array_equal(following, nodes):
            values: Float64 = arrays["value"][nodes]
            return values
        nodes = following


def _tree_problem(arrays: Arrays) -> str | None:
    """Children come after their node, as all libraries number them: so every way ends."""
    nodes, children = len(arrays["value"]), arrays["children"]
    if len(children) != 2 * nodes:
        return f"it has {nodes} nodes and {len(children)} children of them"
    for key, least, end in (
        ("roots", 0, nodes),
        ("feature", 0, int(arrays["dimension"])),
        ("children", np.arange(nodes).repeat(2), nodes),
    ):
        if (arrays[key] < least).any() or (arrays[key] >= end).any():
            return f"its {key} lead nowhere"
    return None


def _fit_rf(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(random_state=SEED).fit(x, y)
    return _pack(_sklearn_tree(estimator.tree_) for estimator in model.estimators_)


def _sklearn_tree(tree: Any) -> _Tree:
    # Rows are float32, thresholds float64: the next float32 below decides alike.
    threshold = tree.threshold.astype(np.float32)
    threshold = np.where(
        threshold > tree.threshold, np.nextafter(threshold, np.float32(-np.inf)), threshold
    )
    votes = tree.value[:, 0, :]
    return _Tree(
        tree.children_left,
        tree.children_right,
        tree.feature,
        threshold,
        votes[:, 1] / votes.sum(axis=1),
    )


def _predict_rf(arrays: Arrays, x: Floats) -> Float64:
    return _from_abnormal(_leaf_values(arrays, x).mean(axis=1))


def _fit_xgboost(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    try:
        from xgboost import XGBClassifier
    except ImportError as error:
        raise ParameterError(
            "text classifier 'xgboost' needs the package xgboost: "
            "pip install 'fade-pipeline[xgboost]'"
        ) from error
    model = XGBClassifier(objective="binary:logistic", random_state=SEED, n_jobs=1).fit(x, y)
    document = json.loads(model.get_booster().save_raw("json"))
    arrays = _pack(
        _xgboost_tree(tree) for tree in document["learner"]["gradient_booster"]["model"]["trees"]
    )
    # The base score's notation differs between versions, so it is measured.
    margins = model.predict(x, output_margin=True).astype(np.float64)
    base = margins - _leaf_values(arrays, x.astype(np.float32)).sum(axis=1)
    if np.ptp(base) > 1e-4:
        raise ParameterError(
            "text classifier 'xgboost': this version of xgboost writes its trees in a way that "
            "cannot be read: install another one or choose another classifier"
        )
    return {**arrays, "base": np.array([np.median(base)])}


def _xgboost_tree(tree: Mapping[str, Any]) -> _Tree:
    conditions = np.asarray(tree["split_conditions"], dtype=np.float32)
    return _Tree(
        np.asarray(tree["left_children"]),
        np.asarray(tree["right_children"]),
        np.asarray(tree["split_indices"]),
        # xgboost goes left below the threshold, not at it.
        np.nextafter(conditions, np.float32(-np.inf)),
        conditions,
    )


def _predict_xgboost(arrays: Arrays, x: Floats) -> Float64:
    return _from_margin(arrays["base"] + _leaf_values(arrays, x).sum(axis=1))


def _width_trees(arrays: Arrays) -> int:
    return 12 * len(arrays["roots"])


# gmm


def _fit_gmm(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    arrays = {}
    for label, side in enumerate(_SIDES):
        distinct = len(np.unique(x[y == label], axis=0))
        if distinct < COMPONENTS:
            raise DataError(
                f"gmm classifier: {distinct} different {side} prompts, it needs at least "
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
    return _from_margin(
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
class _Method:
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


_INTEGERS = ("labels", "roots", "children", "feature")
"""Arrays of int64; all others are floats."""
_MEANS = dict.fromkeys(_SIDES, "D")
_PROMPTS = {"normal": "nD", "abnormal": "mD"}
_TREES = {"roots": "t", "children": "c", "feature": "n", "threshold": "n", "value": "n"}
_DENSITY = {
    f"{side}_{key}": shape
    for side, axes in zip(_SIDES, "ab", strict=True)
    for key, shape in (
        ("axes", f"{axes}D"), ("offset", axes), ("means", f"k{axes}"), ("precisions", "k"),
        ("log_scale", "k"),
    )
}  # fmt: skip
_METHODS = {
    "average": _Method(_fit_average, _predict_average, _MEANS, lambda _: 1, "input"),
    "softmax": _Method(_fit_prompts, _predict_softmax, _PROMPTS, _width_prompts, "input"),
    "max": _Method(_fit_prompts, _predict_max, _PROMPTS, _width_prompts, "input"),
    "lr": _Method(_fit_lr, _predict_lr, {"weights": "D", "bias": "1"}, lambda _: 1),
    "mlp": _Method(
        _fit_mlp,
        _predict_mlp,
        {"hidden": "Dh", "hidden_bias": "h", "output": "h", "output_bias": "1"},
        lambda arrays: len(arrays["output"]),
        least=(MLP_MIN_PROMPTS, 2),
    ),
    "knn": _Method(
        _fit_knn,
        _predict_knn,
        {"prompts": "mD", "labels": "m"},
        lambda arrays: 2 * len(arrays["labels"]),
        least=(NEIGHBOURS, 1),
        problem=_knn_problem,
    ),
    "rf": _Method(_fit_rf, _predict_rf, _TREES, _width_trees, "float32", problem=_tree_problem),
    "xgboost": _Method(
        _fit_xgboost,
        _predict_xgboost,
        _TREES | {"base": "1"},
        _width_trees,
        "float32",
        problem=_tree_problem,
    ),
    "gmm": _Method(
        _fit_gmm,
        _predict_gmm,
        _DENSITY,
        _width_gmm,
        least=(2 * COMPONENTS, COMPONENTS),
    ),
}
CLASSIFIERS = tuple(_METHODS)
"""Names of the nine classifiers."""
