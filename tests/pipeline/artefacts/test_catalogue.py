"""Names that any file system takes, and a store that experiments find."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fade.errors import ParameterError, StoreError
from pipeline.artefacts.catalogue import (
    ARTEFACTS,
    NAME_LENGTH,
    fitting_name,
    folder_above,
    project_root,
    safe_name,
    store_root,
)

NASTY = st.text(st.sampled_from("aA.%/\\ -2E~é漢\n\0"), max_size=8)


@given(st.lists(st.one_of(NASTY, st.text(max_size=300)), unique=True, max_size=30))
@settings(max_examples=30, deadline=None)
def test_safe_names_are_one_to_one(names: list[str]) -> None:
    assert len({safe_name(name) for name in names}) == len(names)


@given(st.one_of(NASTY, st.text(max_size=300)))
@settings(max_examples=40, deadline=None)
def test_safe_names_suit_every_file_system(name: str) -> None:
    safe = safe_name(name)
    assert safe.isascii()
    assert safe.isprintable()
    assert 0 < len(safe) <= NAME_LENGTH
    assert not set(safe) & set('/\\:*?"<>|.')


@given(st.text("漢é/a", min_size=NAME_LENGTH, max_size=2 * NAME_LENGTH), st.data())
@settings(max_examples=40, deadline=None)
def test_long_names_that_end_differently_stay_apart(name: str, data: st.DataObject) -> None:
    assert safe_name(name + "a") != safe_name(name + "b")
    cut = safe_name(name + "a")
    assert safe_name(cut) != cut


@pytest.mark.parametrize("name", ["漢" * 85, "é" * 127, "x" * 255, ".." * 100], ids=range(4))
def test_names_that_quoting_makes_too_long_still_are_file_names(tmp_path: Path, name: str) -> None:
    """85 of these characters are the 255 bytes that file systems take, and 765 when quoted."""
    file = tmp_path / "safe" / f"{safe_name(name)}.parquet.{'0' * 32}.part"
    file.parent.mkdir()
    file.write_text("x")
    assert file.read_text() == "x"


@pytest.mark.parametrize(
    ("name", "safe"),
    [("cable", "cable"), ("metal nut (2)", "metal nut (2)"), ("", "%"), (".", "%2E"),
     ("..", "%2E%2E"), ("a/b", "a%2Fb"), ("50%", "50%25"), ("Ä", "%C3%84")],
)  # fmt: skip
def test_plain_names_stay_readable(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_long_names_are_always_cut_alike() -> None:
    """Banks on disk are found by it."""
    assert safe_name("漢" * 85).startswith("%E6%BC%A2" * 17)
    assert safe_name("漢" * 85) == safe_name("漢" * 85)
    assert safe_name("x" * NAME_LENGTH) == "x" * NAME_LENGTH


@pytest.mark.parametrize("inside", ["", "work", "work/deep"])
def test_the_project_is_the_folder_with_dvc_in_it(tmp_path: Path, inside: str) -> None:
    (tmp_path / "project" / ".dvc").mkdir(parents=True)
    here = tmp_path / "project" / inside
    here.mkdir(parents=True, exist_ok=True)
    assert project_root(here) == tmp_path / "project"


@pytest.mark.parametrize("kind", ["standalone/tmpabc", "tmpabc", "standalone/tmpabc/sub/project"])
def test_a_temporary_experiment_belongs_to_the_repository_above(tmp_path: Path, kind: str) -> None:
    workspace = tmp_path / "repository" / ".dvc" / "tmp" / "exps" / kind
    (workspace / ".dvc").mkdir(parents=True)
    assert project_root(workspace) == tmp_path / "repository"
    inside = workspace / "artefacts"
    inside.mkdir()
    assert project_root(inside) == tmp_path / "repository"


def test_a_project_in_another_one_is_its_own(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    for folder in (inner.parent, inner):
        (folder / ".dvc").mkdir(parents=True)
    assert project_root(inner) == inner
    assert store_root(None, inner) == inner / ".fade" / "store"
    assert store_root("features", inner) == inner / "features"


def test_names_like_those_of_experiments_mean_nothing(tmp_path: Path) -> None:
    here = tmp_path / "tmp" / "exps" / "mine"
    (here / ".dvc").mkdir(parents=True)
    assert project_root(here) == here


def test_links_lead_to_the_project(tmp_path: Path) -> None:
    (tmp_path / "real" / ".dvc").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert project_root(tmp_path / "link") == tmp_path / "real"


def test_without_dvc_the_folder_is_its_own_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "alone"
    outside.mkdir()
    monkeypatch.chdir(outside)
    assert project_root() in (outside, *outside.parents)
    assert not any((folder / ".dvc").is_dir() for folder in outside.parents)
    assert project_root() == outside


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_where_the_store_is(project: Path) -> None:
    assert store_root(None) == project / ".fade" / "store"
    assert store_root("features") == project / "features"
    assert store_root("../shared") == project / ".." / "shared"
    assert store_root("/data/store") == Path("/data/store")
    assert store_root("~/store") == project / "home" / "store"


def test_experiments_share_the_store(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = project / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    (workspace / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(workspace)
    assert store_root(None) == project / ".fade" / "store"
    assert store_root("features") == project / "features"


@pytest.mark.parametrize("name", ["s3://bucket/store", "gs://b"])
def test_urls_stay_what_they_are(name: str) -> None:
    assert store_root(name) == store_root(f" {name}") == store_root(f"{name}/") == name


def test_the_url_of_a_folder_is_that_folder() -> None:
    """Whose disk is looked at, and whose receipts go when rows are lost."""
    assert store_root("file:///data/a%20store/") == Path("/data/a store")


@pytest.mark.parametrize("name", ["s3:/bucket/store", "file:/data", " S3:bucket"])
def test_a_url_that_lacks_a_slash_is_no_folder(name: str) -> None:
    with pytest.raises(ParameterError, match=f"^{name} would be a folder here: write "):
        store_root(name)
    assert isinstance(store_root(f"./{name}"), Path)


def test_a_store_in_memory_is_refused() -> None:
    """Each run would encode all images, and its next stage find none of their features."""
    with pytest.raises(ParameterError, match="each stage is a process of its own"):
        store_root(" Memory://store")


@pytest.mark.parametrize("name", ["", "  "])
def test_no_name_is_refused(name: str) -> None:
    """It would be the project folder itself."""
    with pytest.raises(ParameterError, match=r"features\.store is empty"):
        store_root(name)


def test_artefacts_lie_apart() -> None:
    paths = [artefact.path for artefact in ARTEFACTS]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert not path.is_absolute()
        assert not any(other in path.parents for other in paths), path
        assert os.fspath(path) == path.as_posix()


def test_a_file_name_is_cut_where_file_systems_do() -> None:
    """They count bytes, and what follows."""
    for name, room in (("a" * 255, 0), ("a" * 250, 5), ("ä" * 127, 1)):
        assert fitting_name(name, room) == name
        cut = fitting_name(name, room + 1)
        assert cut != name
        assert cut == safe_name(name)


def test_a_store_below_a_file_is_refused_in_the_words_of_who_asks(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for kind in (ParameterError, StoreError):
        with pytest.raises(kind, match="file is a file, and") as caught:
            folder_above(tmp_path / "file" / "store", kind)
        assert type(caught.value) is kind
