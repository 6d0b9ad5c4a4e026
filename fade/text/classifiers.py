"""Nine text classifiers: from embedded prompts to P(normal) and P(abnormal) of image embeddings.

Fitting uses scikit-learn or xgboost; a fitted classifier is nothing but named arrays, and predicts
in plain numpy. Source: Li, Ivanova, Bruveris, "FADE: Few-shot/zero-shot Anomaly Detection Engine
using Large Vision-Language Model", BMVC 2024, arXiv 2409.00556, and its official implementation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fade.aspect import Shape
from fade.errors import DataError, ParameterError, StoreError
from fade.files import atomic_write, read_plain
from fade.maps import merge_sizes
from fade.text.archive import read_archive
from fade.text.methods import INTEGERS, METHODS, TextMethod
from fade.text.types import Arrays, Float64, Floats

SCHEMA_VERSION = 1
NORM_TOLERANCE = 0.01
BLOCK_BYTES = 2**23
"""Size of the temporaries that one block of rows may need: small enough to stay in a cache."""


@dataclass(frozen=True, eq=False)
class TextClassifier:
    """A fitted classifier.

    Attributes:
        name: one of :data:`CLASSIFIERS`.
        arrays: everything that a prediction needs, as plain arrays.

    Examples:
        >>> fitted = fit("average", np.eye(3), np.array([0, 0, 1]))
        >>> fitted.predict_proba(np.eye(3)).round(2).tolist()
        [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """

    name: str
    arrays: dict[str, np.ndarray]

    @property
    def dimension(self) -> int:
        """Length D of the embeddings that it was fitted on."""
        return int(self.arrays["dimension"])

    def predict_proba(self, x: np.ndarray, *, alone: bool = False) -> Float64:
        """Class probabilities of image embeddings, block by block in bounded memory.

        Args:
            x: (n, D) float16, float32 or float64, each row L2-normalised. ``average``, ``softmax``
                and ``max`` compute in float32 unless x is float64.
            alone: one row a block. The last digit of a product depends on how many rows it has;
                this way a row's result does not depend on the others.

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
        method = METHODS[self.name]
        arrays: Arrays = self.arrays
        if method.precision == "input":
            dtype = np.dtype(np.float64 if x.dtype.itemsize >= 8 else np.float32)
            arrays = {key: value.astype(dtype, copy=False) for key, value in arrays.items()}
        else:
            dtype = np.dtype(method.precision)
        result = np.empty((len(x), 2), dtype=np.float64)
        width = self.dimension + method.width(arrays)
        rows = 1 if alone else max(1, BLOCK_BYTES // (width * dtype.itemsize))
        for start in range(0, len(x), rows):
            block = x[start : start + rows].astype(dtype, copy=False)
            _require_unit_rows(block, f"{self.name} classifier: image embedding", start)
            result[start : start + rows] = method.predict(arrays, block)
        return result


def language_scores(classifier: TextClassifier, tokens: np.ndarray) -> Float64:
    """P(abnormal) of images; that of one does not depend on which others there are.

    Args:
        classifier: fitted on prompts.
        tokens: (n, D) floats, L2-normalised, one an image.

    Returns:
        (n,) float64 in [0, 1].

    Examples:
        >>> fitted = fit("average", np.eye(2), np.array([0, 1]))
        >>> language_scores(fitted, np.eye(2, dtype=np.float32)).round(2).tolist()
        [0.0, 1.0]
    """
    return classifier.predict_proba(tokens, alone=True)[:, 1]


def language_map(
    classifier: TextClassifier,
    patches: Sequence[np.ndarray],
    grids: Sequence[Shape] | None = None,
) -> np.ndarray:
    """P(abnormal) of each patch of one image, sizes merged on the largest grid.

    Args:
        classifier: fitted on prompts.
        patches: at each size (rows x columns, dim) floats, L2-normalised, row by row.
        grids: at each size (rows, columns); None for squares.

    Returns:
        (R, C) float32 in [0, 1].

    Examples:
        >>> fitted = fit("average", np.eye(2), np.array([0, 1]))
        >>> patches = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
        >>> language_map(fitted, [patches], [(1, 2)]).round(2).tolist()
        [[0.0, 1.0]]
    """
    grids = grids or [(round(len(vectors) ** 0.5),) * 2 for vectors in patches]
    return merge_sizes(
        [
            classifier.predict_proba(vectors)[:, 1].reshape(grid)
            for vectors, grid in zip(patches, grids, strict=True)
        ]
    )


def fit(name: str, x: np.ndarray, y: np.ndarray) -> TextClassifier:
    """Fit one classifier on prompt embeddings; the settings are the official ones.

    Args:
        name: one of :data:`CLASSIFIERS`.
        x: (m, D) prompt embeddings, each row L2-normalised; handled as float64.
        y: (m,) labels, 0 = normal, 1 = abnormal; both must occur.

    Raises:
        ParameterError: unknown name, or the package that it needs is not installed.
        DataError: wrong shapes, NaN or infinity, one label only, too few prompts.

    Examples:
        >>> fitted = fit("average", np.eye(3), np.array([0, 0, 1]))
        >>> fitted.name, fitted.dimension, sorted(fitted.arrays)
        ('average', 3, ['abnormal', 'dimension', 'normal'])
    """
    if name not in METHODS:
        raise ParameterError(f"text classifier {name!r} is unknown: choose {', '.join(METHODS)}")
    prompts, labels = _checked_prompts(name, x, y)
    dimension = np.array(prompts.shape[1], np.int64)
    return TextClassifier(name, {"dimension": dimension, **METHODS[name].fit(prompts, labels)})


def save(classifier: TextClassifier, path: Path) -> None:
    """Write a classifier as an ``.npz`` file; equal classifiers give equal bytes.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> fitted = fit("average", np.eye(2), np.array([0, 1]))
        >>> with TemporaryDirectory() as place:
        ...     save(fitted, Path(place, "text.npz"))
        ...     digest(load(Path(place, "text.npz"))) == digest(fitted)
        True
    """
    path = Path(path)
    entries: dict[str, Any] = {
        "schema_version": np.array(SCHEMA_VERSION, np.int64),
        "name": np.array(classifier.name),
        **dict(sorted(classifier.arrays.items())),
    }
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, **entries)


def load(path: Path) -> TextClassifier:
    """Read what :func:`save` wrote.

    Raises:
        StoreError: the file is missing, damaged, no text classifier, or of another schema version.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     save(fit("max", np.eye(2), np.array([0, 1])), Path(place, "text.npz"))
        ...     load(Path(place, "text.npz")).name
        'max'
    """
    try:
        return loads(read_plain(path))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"text classifier {path} is missing or damaged ({error}): run the text stage again"
        ) from error


def loads(data: bytes) -> TextClassifier:
    """A classifier from the bytes of a file that :func:`save` wrote.

    Raises:
        ValueError: it is damaged, no text classifier, of another schema version, or an array has
            not the type, shape or numbers that a prediction needs; the message says which.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     save(fit("softmax", np.eye(2), np.array([0, 1])), Path(place, "text.npz"))
        ...     loads(Path(place, "text.npz").read_bytes()).dimension
        2
    """
    arrays = read_archive(data)
    version, name = arrays.pop("schema_version", None), arrays.pop("name", None)
    if version is None or name is None or version.ndim or name.ndim:
        raise ValueError("it is not a text classifier")
    if version != SCHEMA_VERSION:
        raise ValueError(f"it has schema version {version}, this code reads {SCHEMA_VERSION}")
    method = METHODS.get(str(name))
    if method is None or set(arrays) != {"dimension", *method.shapes}:
        raise ValueError(f"{name} holds other arrays than this code reads")
    _check_arrays(method, arrays)
    return TextClassifier(str(name), arrays)


def _check_arrays(method: TextMethod, arrays: Arrays) -> None:
    """Refuse arrays that a prediction could not use (ValueError)."""
    dimension = arrays["dimension"]
    if dimension.dtype != np.int64 or dimension.ndim or dimension < 1:
        raise ValueError(f"its dimension is {str(dimension)[:60]}")
    sizes = {"1": 1, "D": int(dimension)}
    for key, letters in method.shapes.items():
        array = arrays[key]
        types = (np.int64,) if key in INTEGERS else (np.float32, np.float64)
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
    """Hex SHA-256 over the name and every array's key, type, shape and bytes.

    Examples:
        >>> labels = np.array([0, 1])
        >>> digest(fit("average", np.eye(2), labels)) == digest(fit("average", np.eye(2), labels))
        True
        >>> digest(fit("average", np.eye(2), labels)) == digest(fit("softmax", np.eye(2), labels))
        False
    """
    content = hashlib.sha256(classifier.name.encode())
    for key, array in sorted(classifier.arrays.items()):
        content.update(f"\n{key} {array.dtype.str} {array.shape}\n".encode())
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def check_counts(name: str, what: str, normal: int, abnormal: int) -> None:
    """Refuse fewer prompts than a classifier needs (DataError).

    Args:
        name: of the classifier.
        what: who asks for it, for the error.
        normal, abnormal: how many there are of each label.

    >>> check_counts("average", "average classifier", 1, 1)
    """
    total, each = METHODS[name].least
    if normal + abnormal < total or min(normal, abnormal) < each:
        raise DataError(
            f"{what}: {normal} normal and {abnormal} abnormal prompts, it needs at least {total} in all "
            f"and {each} of each: add prompts or choose another classifier"
        )


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
    check_counts(name, f"{name} classifier", len(labels) - abnormal, abnormal)
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
