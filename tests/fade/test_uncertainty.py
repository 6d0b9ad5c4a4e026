"""Bootstrap samples and permutations of image metrics, held against their plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fade import uncertainty
from fade.errors import DataError, ParameterError
from fade.further_metrics import further_image_metrics
from fade.metrics import image_metrics, roc_curve
from fade.replicates import mean_replicates
from fade.uncertainty import (
    IMAGE_METRICS,
    bootstrap_p_value,
    draws,
    mid_ranks,
    percentile_interval,
    permutation_p_value,
    roc_band,
    swapped_differences,
    weighted_image_metrics,
)


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=12
    )
)
def test_a_sample_has_the_metrics_of_its_images_repeated(
    images: list[tuple[int, bool, int]],
) -> None:
    scores = np.array([score / 4 for score, _, _ in images])
    labels = np.array([label for _, label, _ in images])
    counts = np.array([count for _, _, count in images])
    found = weighted_image_metrics(scores, labels, counts[None])
    repeated = np.repeat(scores, counts), np.repeat(labels, counts)
    wanted = image_metrics(*repeated)[0] | further_image_metrics(*repeated)[0]
    assert set(found) == set(IMAGE_METRICS) >= set(image_metrics(*repeated)[0])
    for name in IMAGE_METRICS:
        np.testing.assert_allclose(found[name][0], wanted[name], atol=1e-12)


def test_samples_keep_the_labels_shares_however_they_are_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = np.arange(30) % 3 == 0
    counts = np.concatenate(list(draws(labels, 200, 5)))
    assert (counts[:, labels].sum(axis=1) == 10).all()
    assert (counts[:, ~labels].sum(axis=1) == 20).all()
    # how often an image comes is binomial: mean 1, variance 1 - 1/n
    assert counts[:, labels].mean() == 1
    assert counts[:, labels].var() == pytest.approx(0.9, abs=0.05)
    again = np.concatenate(list(draws(labels, 200, 5)))
    np.testing.assert_array_equal(again, counts)
    monkeypatch.setattr(uncertainty, "_CELLS", 30 * 7)
    parts = list(draws(labels, 200, 5))
    assert [len(part) for part in parts] == [7] * 28 + [4]


def test_the_interval_of_auroc_is_that_of_its_known_error() -> None:
    """Hanley and McNeil (1982): the variance of AUROC of two normal samples, by simulation here."""
    generator = np.random.default_rng(0)
    labels = np.arange(200) < 100
    aurocs = []
    for _ in range(300):
        scores = generator.normal(labels * 1.0)
        aurocs.append(image_metrics(scores, labels)[0]["full_image_auroc"])
    spread = np.std(aurocs)
    found = [
        weighted_image_metrics(scores, labels, part)["full_image_auroc"]
        for part in draws(labels, 1000, 0)
    ]
    low, high = percentile_interval(np.concatenate(found))
    assert (high - low) / (2 * 1.96) == pytest.approx(spread, rel=0.15)


def test_permutations() -> None:
    generator = np.random.default_rng(1)
    labels = np.arange(60) < 30
    good, bad = generator.normal(labels * 2.0), generator.normal(labels * 0.2)

    def p(a: np.ndarray, b: np.ndarray) -> float:
        difference = [image_metrics(scores, labels)[0]["full_image_auroc"] for scores in (a, b)]
        permuted = swapped_differences([a], [b], labels, 500, 0)["full_image_auroc"]
        return permutation_p_value(difference[1] - difference[0], permuted)

    assert p(good, bad) < 0.01
    assert p(good, np.exp(good)) == 1  # another scale, the same order
    # where there is no difference p-values are uniform: few are small
    small = [
        p(generator.normal(labels * 1.0), generator.normal(labels * 1.0)) < 0.1 for _ in range(40)
    ]
    assert sum(small) <= 9
    assert np.isnan(permutation_p_value(float("nan"), np.zeros(3)))


def test_mid_ranks_are_those_of_scipy() -> None:
    from scipy.stats import rankdata

    scores = np.random.default_rng(2).integers(0, 9, 50) / 3
    np.testing.assert_array_equal(mid_ranks(scores), rankdata(scores))


def test_refusals() -> None:
    labels = np.array([True, False])
    with pytest.raises(DataError, match="do not fit"):
        weighted_image_metrics(np.zeros(3), labels, np.ones((1, 2), int))
    with pytest.raises(DataError, match="do not fit"):
        weighted_image_metrics(np.zeros(2), labels, np.ones((1, 1), int))
    with pytest.raises(DataError, match="not finite"):
        weighted_image_metrics(np.array([0, np.nan]), labels, np.ones((1, 2), int))
    with pytest.raises(ParameterError, match="between 0 and 1"):
        percentile_interval(np.zeros(3), 1)
    assert np.isnan(percentile_interval(np.array([np.nan]))).all()


def test_a_band_holds_the_curves_of_samples_rate_by_rate() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 2 == 0
    scores = rng.random(40) + labels / 2
    at = np.linspace(0, 1, 11)
    found = roc_band(scores, labels, at, replicates=30, seed=3, level=0.9)
    curves = []
    for counts in draws(labels, 30, 3):
        for of_image in counts:
            curve = roc_curve(np.repeat(scores, of_image), np.repeat(labels, of_image))
            assert curve is not None
            across, up = curve
            curves.append([up[across <= rate + 1e-12].max() for rate in at])
    wanted = np.quantile(curves, [0.05, 0.95], axis=0)
    assert found is not None
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert roc_band(scores, np.ones(40, bool), at) is None


def test_equal_scores_make_a_slanted_piece_of_the_band() -> None:
    """As of the curve itself, in which a tie counts half."""
    labels, at = np.arange(20) % 2 == 0, np.linspace(0, 1, 5)
    found = roc_band(np.zeros(20), labels, at)
    assert found is not None
    np.testing.assert_allclose(found, [at, at], atol=1e-12)
    scores = np.where(np.arange(20) < 6, 1.0, 0.0)
    found, curves = roc_band(scores, labels, at, replicates=9, seed=3, level=0.5), []
    for counts in draws(labels, 9, 3):
        for of_image in counts:
            curve = roc_curve(np.repeat(scores, of_image), np.repeat(labels, of_image))
            assert curve is not None
            curves.append(np.interp(at, *curve))
    assert found is not None
    np.testing.assert_allclose(found, np.quantile(curves, [0.25, 0.75], axis=0), atol=1e-12)


def test_p_values_of_samples_are_uniform_where_nothing_differs() -> None:
    """Two detectors of equal worth on the same images: a metric that is a mean over images."""
    rng, found = np.random.default_rng(0), []
    for trial in range(150):
        names = [f"{trial} {i}" for i in range(60)]  # other draws each time
        a, b = (mean_replicates(names, rng.random(60).tolist(), 100) for _ in range(2))
        found.append(bootstrap_p_value(b - a))
    for level in (0.1, 0.3, 0.5):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=0.09)
    assert bootstrap_p_value(np.full(99, 0.1)) == 0.02
    assert np.isnan(bootstrap_p_value(np.array([np.nan])))
