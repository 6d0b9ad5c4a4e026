"""The text classifiers against the libraries that fit them and against the official numbers."""

import io
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr  # type: ignore[import-untyped]

from fade.errors import DataError, ParameterError, StoreError
from fade.text import (
    CLASSIFIERS,
    TextClassifier,
    classifiers,
    digest,
    fit,
    language_scores,
    load,
    read_array,
    save,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
GOLDEN_PATCHES = "weave/test/good/000|160|gem|patch"
GOLDEN_USES = ("classification|weave", "classification|plate", "segmentation|object")
# Fitted by libraries whose numbers may move from version to version.
LOOSE = ("mlp", "rf", "xgboost", "gmm")
# What a prediction in float32 may differ from one in float64.
FLOAT32 = 1e-5

quick = settings(max_examples=25, deadline=None, derandomize=True)


def unit(rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    x = rng.normal(size=(rows, width))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@cache
def prompts() -> tuple[np.ndarray, np.ndarray]:
    """60 prompt embeddings in two overlapping clouds, labels mixed."""
    rng = np.random.default_rng(0)
    y = (np.arange(60) % 5 < 2).astype(np.int8)
    x = unit(rng, 60, 16) + 0.3 * np.outer(2 * y - 1.0, unit(rng, 1, 16)[0])
    return x / np.linalg.norm(x, axis=1, keepdims=True), y


@cache
def queries() -> np.ndarray:
    return unit(np.random.default_rng(1), 200, 16)


@cache
def fitted(name: str) -> TextClassifier:
    if name == "xgboost":
        pytest.importorskip("xgboost")
    return fit(name, *prompts())


def softmax(logits: np.ndarray) -> np.ndarray:
    terms = np.exp(logits - logits.max(axis=1, keepdims=True))
    return terms / terms.sum(axis=1, keepdims=True)


def official(name: str, x: np.ndarray, y: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """P(normal), P(abnormal) from the libraries themselves or straight from the formula."""
    if name == "gmm":
        from sklearn.decomposition import PCA
        from sklearn.mixture import GaussianMixture

        likelihoods = []
        for label in (0, 1):
            pca = PCA(n_components=0.9, random_state=42).fit(x[y == label])
            mixture = GaussianMixture(10, covariance_type="spherical", random_state=42)
            mixture.fit(pca.transform(x[y == label]))
            likelihoods.append(mixture.score_samples(pca.transform(queries)))
        return softmax(np.stack(likelihoods, axis=1))
    cosines = 100 * queries @ x.T
    if name == "average":
        means = np.stack([x[y == label].mean(axis=0) for label in (0, 1)])
        return softmax(100 * queries @ means.T)
    if name == "softmax":
        every = softmax(cosines)
        return np.stack([every[:, y == label].sum(axis=1) for label in (0, 1)], axis=1)
    if name == "max":
        return softmax(np.stack([cosines[:, y == label].max(axis=1) for label in (0, 1)], axis=1))
    return estimator(name).fit(x, y).predict_proba(queries)


def estimator(name: str) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier

    if name == "xgboost":
        return pytest.importorskip("xgboost").XGBClassifier(
            objective="binary:logistic", random_state=42
        )
    return {
        "lr": LogisticRegression(solver="liblinear", random_state=42),
        "mlp": MLPClassifier(
            hidden_layer_sizes=(640,), max_iter=200, early_stopping=True, random_state=42
        ),
        "knn": KNeighborsClassifier(n_neighbors=5, weights="distance", metric="cosine"),
        "rf": RandomForestClassifier(random_state=42),
    }[name]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_equals_its_library_or_formula(name: str) -> None:
    ours = fitted(name).predict_proba(queries())
    theirs = official(name, *prompts(), queries())
    assert ours.dtype == np.float64
    assert np.ptp(ours[:, 1]) > 0.05  # a comparison of constants would prove nothing
    # xgboost itself computes in float32.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 if name == "xgboost" else 1e-9)


@pytest.mark.parametrize("use", GOLDEN_USES)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_agrees_with_the_official_numbers(name: str, use: str) -> None:
    if name == "xgboost":
        pytest.importorskip("xgboost")
    golden = np.load(GOLDEN / "text_embeddings.npz")
    patches = np.load(GOLDEN / "image_embeddings.npz")[GOLDEN_PATCHES]
    expected = golden[f"{use}|predict_proba|{name}"]
    ours = fit(name, golden[f"{use}|x"], golden[f"{use}|y"]).predict_proba(patches)
    if name in LOOSE and np.ptp(expected[:, 1]) > 0:
        # The golden numbers are float32: what vanishes in it must vanish here.
        assert spearmanr(ours[:, 1].astype(np.float32), expected[:, 1]).statistic > 0.9
    else:
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_float16_and_float32_give_nearly_the_same(name: str) -> None:
    half = queries().astype(np.float16)
    reference = fitted(name).predict_proba(half.astype(np.float64))
    for x in (half, half.astype(np.float32)):
        np.testing.assert_allclose(fitted(name).predict_proba(x), reference, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_blocks_do_not_change_the_result(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted(name).predict_proba(queries())
    monkeypatch.setattr(classifiers, "BLOCK_BYTES", 1)  # one row a block
    np.testing.assert_allclose(fitted(name).predict_proba(queries()), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_do_not_depend_on_the_other_images(name: str, dtype: type[np.floating]) -> None:
    if name == "xgboost":
        pytest.importorskip("xgboost")
    # lengths that no vector instruction divides
    rng = np.random.default_rng(5)
    classifier = fit(name, unit(rng, 151, 611), np.arange(151) % 5 < 2)
    tokens: np.ndarray = unit(rng, 301, 611).astype(dtype)
    whole = language_scores(classifier, tokens)
    one_by_one = [language_scores(classifier, token[None].copy())[0] for token in tokens]
    assert whole.tolist() == one_by_one
    assert whole[7:180].tolist() == language_scores(classifier, tokens[7:180]).tolist()
    assert language_scores(classifier, tokens[:0]).shape == (0,)


@pytest.mark.parametrize("name", CLASSIFIERS)
@quick
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 8))
def test_probabilities_sum_to_one(name: str, seed: int, rows: int) -> None:
    result = fitted(name).predict_proba(unit(np.random.default_rng(seed), rows, 16))
    assert result.shape == (rows, 2)
    assert ((result >= 0) & (result <= 1)).all()
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["average", "softmax", "max"])
@quick
@given(seed=st.integers(0, 2**32 - 1))
def test_swapped_labels_swap_the_columns(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, q = unit(rng, 9, 4), unit(rng, 5, 4)
    y = np.array([0, 1, 1, 0, 1, 0, 0, 0, 1])
    swapped = fit(name, x, 1 - y).predict_proba(q)
    np.testing.assert_allclose(swapped, fit(name, x, y).predict_proba(q)[:, ::-1], atol=1e-12)


def test_opposite_prompts_do_not_overflow_and_keep_small_probabilities() -> None:
    x = np.array([[1.0, 0.0], [-1.0, 0.0]])
    for name in ("average", "softmax", "max"):
        for dtype in (np.float16, np.float32, np.float64):
            result = fit(name, x, np.array([0, 1])).predict_proba(x.astype(dtype))
            np.testing.assert_allclose(result[0], [1, np.exp(-200)], rtol=1e-4)
            np.testing.assert_allclose(result[1], [np.exp(-200), 1], rtol=1e-4)


def test_means_of_average_are_not_renormalised() -> None:
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    result = fit("average", x, np.array([0, 0, 1])).predict_proba(np.array([[0.6, 0.8]]))
    np.testing.assert_allclose(result[0, 1], 1 / (1 + np.exp(-80)), rtol=1e-12)
    np.testing.assert_allclose(result[0, 0], np.exp(-80), rtol=1e-9)


def test_knn_at_distance_zero_asks_the_touching_prompts_alone() -> None:
    x, y = np.eye(6), np.array([0, 0, 0, 1, 1, 1])
    x[5], y[5] = x[0], 1  # the same place with both labels
    result = fit("knn", x, y).predict_proba(np.eye(6)[[0, 1, 3]])
    np.testing.assert_array_equal(result, [[0.5, 0.5], [1, 0], [0, 1]])
    np.testing.assert_array_equal(
        result, estimator("knn").fit(x, y).predict_proba(np.eye(6)[[0, 1, 3]])
    )


@pytest.mark.parametrize("name", ["rf", "xgboost"])
def test_trees_decide_like_their_library_on_the_threshold(name: str) -> None:
    if name == "xgboost":
        pytest.importorskip("xgboost")
    # Few distinct coordinates, and queries that lie on them and on the points between.
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    y = (np.arange(40) // 3 % 2).astype(int)
    ours = fit(name, x, y)
    # Put every threshold into a coordinate of some query and complete it to unit length.
    cuts = ours.arrays["threshold"]
    cuts = cuts[np.abs(cuts) < 1].astype(np.float64)
    rest = np.sqrt(1 - cuts**2)
    q = np.concatenate([np.stack([cuts, rest], axis=1), np.stack([rest, cuts], axis=1)])
    q = np.concatenate([q, np.nextafter(q.astype(np.float32), np.float32(2))])
    theirs = estimator(name).fit(x, y).predict_proba(q)
    np.testing.assert_allclose(ours.predict_proba(q), theirs, rtol=0, atol=1e-6)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ParameterError, match=r"'svm' is unknown: choose average, softmax, max"):
        fit("svm", *prompts())


def test_missing_xgboost_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(ParameterError, match=r"pip install 'fade-pipeline\[xgboost\]'"):
        fit("xgboost", *prompts())


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_fit_refuses_bad_input(name: str) -> None:
    x, y = prompts()
    broken = x.copy()
    broken[7, 3] = np.nan
    for embeddings, labels, message in (
        (x, np.zeros(60), "60 normal and 0 abnormal"),
        (x, np.ones(60), "0 normal and 60 abnormal"),
        (x, y * 2, "expected 0 and 1"),
        (x, y * np.nan, "expected 0 and 1"),
        (x, y[:-1], r"labels of shape \(59,\)"),
        (x[0], y, r"shape \(16,\)"),
        (x[:0], y[:0], r"shape \(0, 16\)"),
        (np.ones((60, 16), int), y, "int64"),
        (broken, y, "embedding 7 has norm nan"),
        (np.where(np.isnan(broken), -np.inf, x), y, "embedding 7 has norm inf"),
        (2 * x, y, "embedding 0 has norm 2, expected 1"),
    ):
        with pytest.raises(DataError, match=message):
            fit(name, embeddings, labels)


@pytest.mark.parametrize(
    ("name", "normal", "abnormal", "message"),
    [
        ("knn", 2, 2, "at least 5 in all"),
        ("mlp", 5, 5, "at least 11 in all and 2 of each"),
        ("mlp", 20, 1, "at least 11 in all and 2 of each"),
        ("gmm", 9, 20, "at least 20 in all and 10 of each"),
    ],
)
def test_too_few_prompts(name: str, normal: int, abnormal: int, message: str) -> None:
    x = unit(np.random.default_rng(2), normal + abnormal, 8)
    with pytest.raises(DataError, match=message):
        fit(name, x, np.repeat([0, 1], [normal, abnormal]))


@pytest.mark.parametrize(
    ("name", "normal", "abnormal"), [("knn", 4, 1), ("mlp", 9, 2), ("gmm", 10, 10), ("rf", 1, 1)]
)
def test_just_enough_prompts(name: str, normal: int, abnormal: int) -> None:
    x = unit(np.random.default_rng(3), normal + abnormal, 8)
    result = fit(name, x, np.repeat([0, 1], [normal, abnormal])).predict_proba(x)
    assert np.isfinite(result).all()


def test_gmm_refuses_prompts_that_are_all_alike() -> None:
    x = unit(np.random.default_rng(4), 30, 8)
    x[:15] = x[0]
    with pytest.raises(DataError, match="1 different normal prompt, it needs at least 10"):
        fit("gmm", x, np.repeat([0, 1], 15))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_predict_refuses_bad_input(name: str) -> None:
    broken = queries().copy()
    broken[150, 2] = np.inf
    zero = queries().copy()
    zero[199] = 0
    for x, message in (
        (queries()[:, :-1], r"shape \(200, 15\), expected floats of shape \(n, 16\)"),
        (queries()[0], r"shape \(16,\)"),
        (np.ones((3, 16), np.int8), "int8"),
        (broken, "image embedding 150 has norm inf"),
        (zero, "image embedding 199 has norm 0"),
    ):
        with pytest.raises(DataError, match=f"{name} classifier.*{message}"):
            fitted(name).predict_proba(x)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_save_and_load(name: str, tmp_path: Path) -> None:
    save(fitted(name), tmp_path / "a.npz")
    save(fitted(name), tmp_path / "b.npz")
    loaded = load(tmp_path / "a.npz")
    assert loaded.name == name
    assert digest(loaded) == digest(fitted(name))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]
    np.testing.assert_array_equal(
        loaded.predict_proba(queries()), fitted(name).predict_proba(queries())
    )


def test_digest_sees_every_difference() -> None:
    base = fitted("lr")
    nudged = {**base.arrays, "bias": base.arrays["bias"] + 1e-12}
    narrow = {**base.arrays, "bias": base.arrays["bias"].astype(np.float32)}
    other = {**base.arrays, "bias": base.arrays["bias"][:, None]}
    classifiers = [base, TextClassifier("softmax", base.arrays)]
    classifiers += [TextClassifier("lr", arrays) for arrays in (nudged, narrow, other)]
    assert len({digest(c) for c in classifiers}) == len(classifiers)
    assert digest(base) == digest(TextClassifier("lr", dict(reversed(base.arrays.items()))))


def test_refitting_gives_the_same_digest() -> None:
    for name in ("mlp", "rf", "gmm"):
        assert digest(fit(name, *prompts())) == digest(fitted(name))


def test_load_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "classifier.npz"
    with pytest.raises(StoreError, match=r"classifier\.npz is missing"):
        load(path)
    save(fitted("softmax"), path)
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for content in (b"", b"no archive", good[:-100], good[: len(good) // 2], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"classifier\.npz is missing or damaged"):
            load(path)

    arrays: dict[str, Any] = fitted("softmax").arrays
    for entries, message in (
        ({"schema_version": np.array(2), "name": np.array("softmax"), **arrays}, "version 2"),
        ({"schema_version": np.array(1), "name": np.array("svm"), **arrays}, "other arrays"),
        ({"schema_version": np.array(1), "name": np.array("lr"), **arrays}, "other arrays"),
        (dict(arrays), "not a text classifier"),
    ):
        with path.open("wb") as file:
            np.savez(file, **entries)
        with pytest.raises(StoreError, match=message):
            load(path)
    with path.open("wb") as file:
        np.savez(file, schema_version=np.array(1), name=np.array({"a": 1}, dtype=object))
    with pytest.raises(StoreError, match="damaged"):
        load(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(StoreError, match="damaged"):
        load(tmp_path / "array.npy")


def broken(name: str, key: str, value: Any) -> TextClassifier:
    """A fitted classifier with one array replaced, or changed by a function."""
    arrays = fitted(name).arrays
    return TextClassifier(name, {**arrays, key: value(arrays[key]) if callable(value) else value})


@pytest.mark.parametrize(
    ("name", "key", "value", "says"),
    [
        ("average", "normal", np.zeros(15), r"normal has shape \(15,\)"),
        ("average", "normal", np.zeros((1, 16)), r"normal has shape \(1, 16\)"),
        ("average", "abnormal", np.array(["text"] * 16), "abnormal holds <U4, expected float64"),
        ("average", "abnormal", np.zeros(16, np.int64), "abnormal holds int64"),
        ("average", "abnormal", np.full(16, np.nan), "abnormal holds NaN or infinity"),
        ("average", "dimension", np.array([16]), r"its dimension is \[16\]"),
        ("average", "dimension", np.array(-16), "its dimension is -16"),
        ("average", "dimension", np.array("16"), "its dimension is 16"),
        ("average", "dimension", np.array(1 << 40), "normal has shape"),
        ("max", "normal", np.zeros((0, 16)), r"normal has shape \(0, 16\)"),
        ("softmax", "abnormal", np.zeros((3, 17)), r"abnormal has shape \(3, 17\)"),
        ("lr", "bias", np.zeros(2), r"bias has shape \(2,\)"),
        ("lr", "weights", np.full(16, np.inf), "weights holds NaN or infinity"),
        ("mlp", "output", np.zeros(639), r"output has shape \(639,\)"),
        ("knn", "labels", lambda labels: labels * 2, "its labels are not 5 or more of 0 and 1"),
        ("knn", "labels", lambda labels: labels.astype(np.float64), "labels holds float64"),
        ("knn", "prompts", lambda prompts: prompts[1:], "does not fit the other arrays"),
        ("rf", "roots", lambda roots: roots - 1, "its roots lead nowhere"),
        ("rf", "feature", lambda feature: feature + 16, "its feature lead nowhere"),
        ("rf", "children", lambda children: children * 0, "its children lead nowhere"),
        ("rf", "children", lambda children: children + 10**9, "its children lead nowhere"),
        ("rf", "children", lambda children: children[:-2], "children of them"),
        ("gmm", "normal_means", lambda means: means[:, :-1], "normal_means has shape"),
        ("gmm", "abnormal_precisions", lambda found: found[:-1], "abnormal_precisions has shape"),
    ],
)
def test_load_refuses_arrays_that_could_not_be_used(
    name: str, key: str, value: Any, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "classifier.npz"
    save(broken(name, key, value), path)
    with pytest.raises(StoreError, match=rf"classifier\.npz .*{says}.*run the text stage again"):
        load(path)


def test_arrays_are_no_longer_than_their_files() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(6, dtype=np.float32))
    np.testing.assert_array_equal(read_array(buffer.getvalue()), np.arange(6))
    for data, says in (
        (buffer.getvalue()[:-4], "tells of 24 bytes, there are 20"),
        (buffer.getvalue() + b"1234", "tells of 24 bytes, there are 28"),
        (buffer.getvalue().replace(b"(6,)", b"(-6,)"), "array"),
        (buffer.getvalue().replace(b"'<f4'", b"'<((('"), "no header of an array"),
        (b"\x93NUMPY\x09\x00" + bytes(60), "no header of an array"),
        (b"", "no header of an array"),
    ):
        with pytest.raises(ValueError, match=says):
            read_array(data)
    for shape, says in (
        ((1 << 33, 4), "tells of 137,438,953,472 bytes, there are 0"),
        ((0, 10**20), "tells of the shape"),
        ((0, True), "tells of the shape"),
    ):
        huge = io.BytesIO()
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(huge, header)
        with pytest.raises(ValueError, match=says):
            read_array(huge.getvalue())


def test_prediction_needs_numpy_alone(tmp_path: Path) -> None:
    for name in CLASSIFIERS:
        save(fitted(name), tmp_path / f"{name}.npz")
    np.save(tmp_path / "queries.npy", queries())
    code = (
        "import sys, numpy as np; from pathlib import Path; from fade.text import load\n"
        "for p in Path(sys.argv[1]).glob('*.npz'):\n"
        "    load(p).predict_proba(np.load(Path(sys.argv[1]) / 'queries.npy'))\n"
        "heavy = {'sklearn', 'scipy', 'xgboost', 'torch', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
