"""Memory banks against brute force, and index files that are whole, damaged or approximate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fade.bank as bank_module
from fade.bank import (
    anomaly,
    coreset,
    float16_to_float32,
    normalized_float32,
    similarity_by_index,
    similarity_to_others,
    similarity_to_references,
)
from fade.errors import DataError, ParameterError, StoreError
from fade.faiss_index import (
    build_index,
    check_index,
    index_vectors,
    read_index,
    stored_digest,
    write_index,
)
from fade.rules.nearest import nearest_by_index


def vectors(count: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    raw = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(
    references=st.integers(1, 7),
    patches=st.integers(1, 12),
    queries=st.integers(1, 25),
    rows=st.sampled_from([1, 4, 7, 512]),
)
def test_references_by_brute_force(references: int, patches: int, queries: int, rows: int) -> None:
    query, bank = vectors(queries, seed=1), vectors(references * patches, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank_module, "QUERY_ROWS", rows)
        found = similarity_to_references(query, bank, patches)
    expected = (query @ bank.T).reshape(queries, references, patches).max(axis=2).T
    assert found.shape == (references, queries)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("patches", [4, 49, 225, 784])
def test_a_reference_counts_alike_whatever_stands_beside_it(patches: int) -> None:
    query, bank = vectors(patches, 64, 1), vectors(5 * patches, 64, 2)
    together = similarity_to_references(query, bank, patches)
    for number, reference in enumerate(bank.reshape(5, patches, 64)):
        alone = similarity_to_references(query, reference, patches)
        np.testing.assert_array_equal(alone[0], together[number])


def test_references_have_patches() -> None:
    with pytest.raises(DataError, match="6 vectors holds no references of 0 patches"):
        similarity_to_references(vectors(2), vectors(6), patches=0)


def test_true_block_sizes() -> None:
    query, bank = vectors(1100, 16, 1), vectors(3 * 1800, 16, 2)
    found = similarity_to_references(query, bank, 1800)
    expected = (query @ bank.T).reshape(1100, 3, 1800).max(axis=2).T
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.sampled_from([1, 4, 7, 512]))
def test_others_by_brute_force(queries: int, rows: int) -> None:
    query = vectors(queries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank_module, "QUERY_ROWS", rows)
        found = similarity_to_others(query)
    products = query @ query.T
    np.fill_diagonal(products, -np.inf)
    np.testing.assert_allclose(found, products.max(axis=1), atol=1e-6, rtol=0)


def test_equal_patch_elsewhere_counts() -> None:
    query = vectors(5)
    query[3] = query[1]
    distances = anomaly(similarity_to_others(query))
    assert distances[1] < 1e-6
    assert distances[3] < 1e-6
    assert (distances[[0, 2, 4]] > 0.01).all()


def test_single_patch_has_no_others() -> None:
    with pytest.raises(ParameterError, match=r"single patch.*segmentation_sizes"):
        similarity_to_others(vectors(1))


def test_bank_with_the_query_is_at_distance_0() -> None:
    query = vectors(9, 32)
    bank = np.concatenate([vectors(9, 32, 5), query])
    distances = anomaly(similarity_to_references(query, bank, 9))
    assert distances[1].max() < 1e-6
    assert distances[0].min() > 0.01
    found = anomaly(similarity_by_index(query, build_index(bank)))
    np.testing.assert_allclose(found, distances.min(axis=0), atol=1e-6)


def test_anomaly_spans_0_to_1_and_passes_nan_on() -> None:
    found = anomaly(np.array([1.0000001, 1, 0, -1, np.nan], np.float32))
    np.testing.assert_array_equal(found, [0, 0, 0.5, 1, np.nan])
    assert found.dtype == np.float32


def test_float16_is_brought_to_unit_length() -> None:
    exact = vectors(50, 64)
    np.testing.assert_array_equal(normalized_float32(exact), exact)
    half = normalized_float32(exact.astype(np.float16))
    assert half.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(half, exact, atol=1e-3)


def test_every_float16_widens_to_the_bit() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)]
    found = float16_to_float32(np.tile(finite, 2))  # more than one piece
    expected = np.tile(finite, 2).astype(np.float32)
    np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))
    rows = np.ascontiguousarray(halves.reshape(-1, 8, 2)[:, ::2])
    with np.errstate(all="ignore"):
        wide = rows.astype(np.float32)
        wide /= np.sqrt(np.einsum("...i,...i->...", wide, wide))[..., None]
        np.testing.assert_array_equal(normalized_float32(rows), wide)  # infinity and NaN included
        np.testing.assert_array_equal(normalized_float32(rows[:, 0]), wide[:, 0])
    assert normalized_float32(np.zeros((0, 4), np.float16)).shape == (0, 4)


def test_flat_file_round_trip(tmp_path: Path) -> None:
    bank = vectors(20)
    write_index(build_index(bank), tmp_path / "deep" / "er" / "bank.faiss")
    index = read_index(tmp_path / "deep" / "er" / "bank.faiss")
    np.testing.assert_array_equal(index_vectors(index), bank)
    assert index_vectors(index).base is not None  # a view


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_pipe_is_no_bank(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "bank.faiss")
    assert stored_digest(tmp_path / "bank.faiss") == b""
    with pytest.raises(StoreError, match=r"bank\.faiss"):
        read_index(tmp_path / "bank.faiss")


def test_a_rewritten_file_has_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "bank.faiss"
    assert stored_digest(path) == b""
    seen = set()
    for count in (20, 21, 20):
        write_index(build_index(vectors(count)), path)
        os.utime(path, (1e9, 1e9))  # a coarse clock
        seen.add(stored_digest(path))
    assert len(seen) == 2
    path.write_bytes(b"x")
    assert stored_digest(path) == b""


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing or damaged"):
        read_index(tmp_path / "none.faiss")
    write_index(build_index(vectors(40)), tmp_path / "bank.faiss")
    whole = (tmp_path / "bank.faiss").read_bytes()
    for broken in (b"", whole[:10], whole[: len(whole) // 2], b"what" + whole[4:]):
        (tmp_path / "bank.faiss").write_bytes(broken)
        with pytest.raises(StoreError, match="fade run --force bank"):
            read_index(tmp_path / "bank.faiss")


def test_factory_index() -> None:
    bank, query = vectors(200), vectors(10, seed=3)
    index: Any = build_index(bank, "IVF4,Flat")
    exact = (query @ bank.T).max(axis=1)
    assert index.nprobe == 4  # all of so few lists
    np.testing.assert_allclose(similarity_by_index(query, index), exact, atol=1e-6)
    index.nprobe = 1
    found = similarity_by_index(query, index)
    assert (found <= exact + 1e-6).all()
    assert (found > -1).all()


def test_files_of_any_euclidean_index_are_read(tmp_path: Path) -> None:
    """Those that were written before indexes had a centre, too."""
    import faiss

    bank, query = 3 + vectors(1000, 16), 3 + vectors(20, 16, seed=1)
    plain: Any = faiss.index_factory(16, "IVF16,Flat", faiss.METRIC_L2)
    plain.train(bank)
    plain.add(bank)
    plain.nprobe = 16
    exact = np.linalg.norm(query[:, None] - bank, axis=-1).min(axis=1)
    for index in (
        plain, build_index(bank, "IVF16,Flat", "euclidean"), build_index(bank, "flat", "euclidean"),
    ):  # fmt: skip
        write_index(index, tmp_path / "bank.faiss")
        read = read_index(tmp_path / "bank.faiss")
        found = nearest_by_index(query, read, metric="euclidean")[:, 0]
        np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_what_faiss_refuses_is_said_without_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import faiss

    with pytest.raises(ParameterError, match=r"knows \(could not parse index string abc\): use"):
        build_index(vectors(4), "abc")
    with pytest.raises(ParameterError, match=r"knows \(The dimension of the vector \(d\) should"):
        build_index(vectors(4), "PQ7")
    written = faiss.write_index
    monkeypatch.setattr(faiss, "write_index", lambda index, path: written(index, "/dev/full"))
    room = (
        r"bank.faiss cannot be written \(write error in .* \(No space left on device\)\): make room"
    )
    with pytest.raises(StoreError, match=room):
        write_index(build_index(vectors(4000)), tmp_path / "bank.faiss")


def test_enough_is_searched_and_the_file_remembers(tmp_path: Path) -> None:
    import faiss

    bank = vectors(1000, 16)
    for string, probes in (
        ("IVF16,Flat", 16),
        ("OPQ4,IVF128,PQ4x4", 32),
        ("IVF128,Flat,RFlat", 32),
    ):
        write_index(build_index(bank, string), tmp_path / "bank.faiss")
        read = read_index(tmp_path / "bank.faiss")
        assert faiss.extract_index_ivf(read).nprobe == probes
        write_index(build_index(bank, string, "euclidean"), tmp_path / "bank.faiss")
        read = read_index(tmp_path / "bank.faiss")
        assert faiss.extract_index_ivf(read).nprobe == probes
    write_index(build_index(bank, "HNSW8"), tmp_path / "graph.faiss")
    graph: Any = read_index(tmp_path / "graph.faiss")
    assert graph.hnsw.efSearch == 128


@pytest.mark.parametrize("index", ["PCA8,Flat", "PCA16,Flat", "PCAW8,IVF4,Flat", "RR8,HNSW8"])
def test_reductions_are_refused(index: str) -> None:
    with pytest.raises(ParameterError, match=rf"'{index}' .*no cosines.*leave PCA"):
        build_index(vectors(200, 16), index)


@pytest.mark.parametrize("index", ["HNSW8", "RR16,Flat", "L2norm,Flat"])
def test_what_keeps_cosines_is_taken(index: str) -> None:
    bank = vectors(200, 16)
    found = similarity_by_index(bank, build_index(bank, index))
    np.testing.assert_allclose(found, 1, atol=1e-5)


def test_nothing_found_is_the_farthest() -> None:
    import faiss

    assert similarity_by_index(vectors(3), faiss.IndexFlatIP(6)).tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    "index", ["HNSW99999999", "HNSW0", "HNSW1", "IVF4_HNSW0,Flat", "IVF0,Flat"]
)
def test_numbers_that_faiss_does_not_survive(index: str) -> None:
    with pytest.raises(ParameterError, match=rf"'{index}' asks for .* takes [12] to 1,0"):
        build_index(vectors(100), index)


def test_an_index_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("faiss.index_factory", fail)
    with pytest.raises(ParameterError, match=r"'HNSW64' is no index of 6 .*not enough memory"):
        build_index(vectors(100), "HNSW64")


@pytest.mark.parametrize(
    ("index", "least"),
    [("IVF7,Flat", 7), ("PQ2x4", 16), ("IVF20,PQ2x3", 20), ("L2norm,IVF8,Flat,Refine(Flat)", 8)],
)
def test_how_many_vectors_an_index_takes(index: str, least: int) -> None:
    check_index(index, 6)
    build_index(vectors(least), index)
    for fails in (
        lambda: build_index(vectors(least - 1), index),
        lambda: check_index(index, 6, least - 1),
    ):
        with pytest.raises(ParameterError, match=f"on {least} .* the bank holds {least - 1}:"):
            fails()


@pytest.mark.parametrize("index", ["OPQ2,HNSW8", "OPQ2,IVF4,PQ2x4", "HNSW8,PQ2"])
def test_centroids_of_a_rotation_and_of_a_graph_are_counted(index: str) -> None:
    """Nothing is trained: OPQ takes half a minute."""
    check_index(index, 6, 256, "euclidean")
    with pytest.raises(ParameterError, match=r"on 256 .* the bank holds 255:"):
        check_index(index, 6, 255, "euclidean")


@pytest.mark.parametrize("index", ["nonsense", "IVF500,Flat", "PQ4", "LSH", "IDMap,Flat"])
def test_factory_string_that_does_not_work(index: str) -> None:
    with pytest.raises(ParameterError, match=r"vision\.index") as caught:
        build_index(vectors(100), index)
    assert "\n" not in str(caught.value)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 1))
def test_coreset_is_the_greedy_choice(count: int, fraction: float) -> None:
    points = vectors(count)
    kept = coreset(points, fraction)
    assert len(kept) == max(1, round(fraction * count))
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(coreset(points.copy(), fraction), kept)
    if len(kept) == count:
        return
    products = points.astype(np.float64) @ points.T.astype(np.float64)
    chosen = [int(np.argmax(points @ points.mean(axis=0)))]
    while len(chosen) < len(kept):
        chosen.append(int(np.argmin(products[:, chosen].max(axis=1))))
    cover = products[:, kept].max(axis=1).min()
    assert cover == pytest.approx(products[:, chosen].max(axis=1).min(), abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 40), st.floats(0.05, 0.9), st.sampled_from([0, 10_000]))
def test_a_euclidean_coreset_is_the_greedy_choice(count: int, fraction: float, far: int) -> None:
    """Of whole numbers, so that distances are exact wherever the vectors lie."""
    rng = np.random.default_rng(count)
    points = rng.integers(-40, 40, (count, 3)) + far * np.array([1, -1, 3])
    kept = coreset(points.astype(np.float32), fraction, "euclidean")
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    chosen = [int(np.argmin(np.linalg.norm(points - points.mean(axis=0), axis=1)))]
    while len(chosen) < len(kept):
        chosen.append(int(np.argmax(apart[:, chosen].min(axis=1))))
    cover = apart[:, kept].min(axis=1).max()
    assert cover == pytest.approx(apart[:, chosen].min(axis=1).max(), abs=1e-3)


def test_coreset_of_equal_vectors() -> None:
    points = np.repeat(vectors(1), 10, axis=0)
    kept = coreset(points, 0.5)
    assert len(kept) == 5


@pytest.mark.parametrize("fraction", [0, -0.5, 1.01, float("nan")])
def test_coreset_fraction(fraction: float) -> None:
    with pytest.raises(ParameterError, match=r"vision\.coreset"):
        coreset(vectors(4), fraction)
