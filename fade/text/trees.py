"""Forests of decision trees as plain arrays: random forest and xgboost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fade.errors import ParameterError
from fade.text.types import SEED, Arrays, Float64, Floats, from_abnormal, from_margin


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


def tree_problem(arrays: Arrays) -> str | None:
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


def fit_rf(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    """Arrays of a random forest of scikit-learn."""
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


def predict_rf(arrays: Arrays, x: Floats) -> Float64:
    """Mean share of abnormal prompts in the leaves, (b, 2)."""
    return from_abnormal(_leaf_values(arrays, x).mean(axis=1))


def fit_xgboost(x: Float64, y: NDArray[np.int64]) -> dict[str, np.ndarray]:
    """Arrays of gradient-boosted trees of xgboost.

    Raises:
        ParameterError: xgboost is not installed, or writes its trees in an unknown way.
    """
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


def predict_xgboost(arrays: Arrays, x: Floats) -> Float64:
    """Logistic function of the sum of the leaves, (b, 2)."""
    return from_margin(arrays["base"] + _leaf_values(arrays, x).sum(axis=1))


def width_trees(arrays: Arrays) -> int:
    """Numbers that a row needs while it is predicted."""
    return 12 * len(arrays["roots"])
