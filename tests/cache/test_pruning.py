"""What goes from a store and what stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from cache import pruning
from cache.layout import Space
from cache.store import Store
from fade.errors import StoreError
from pipeline.artefacts.catalogue import ARTEFACTS, TEST
from pipeline.artefacts.receipts import needed_rows, write_receipt
from pipeline.cli.main import main

SPACE = Space("numbers", {"kind": "test"}, (4,), "float32")
TEXT = Space("text", {"kind": "text"}, (4,), "float32")
RECEIPTS = [artefact for artefact in ARTEFACTS if artefact.receipt]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    store = Store(Path(".fade/store").absolute())
    for space in (SPACE, TEXT):
        store.register(space)
    return store


def write(store: Store, *keys: str, space: Space = SPACE) -> str:
    return store.write(space, keys, np.ones((len(keys), 4)))[0].segment


def age(path: Path | str, days: float = 2) -> None:
    path = Path(path)
    then = time.time() - days * pruning.DAY
    for file in (path, *path.rglob("*")):
        os.utime(file, (then, then))


def reasons(removals: list[pruning.Removal]) -> list[str]:
    return sorted(removal.reason for removal in removals)


def prune(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["cache", "prune", *arguments])
    return int(ended.value.code or 0)


def test_nothing_of_a_tidy_store(store: Store) -> None:
    write(store, "a", "b")
    age(store.root)
    assert pruning.find_removable(store, everything=True) == []


def test_young_leftovers_may_be_a_writers(store: Store) -> None:
    segment = write(store, "a")
    store.withdraw(SPACE, segment)
    assert pruning.find_removable(store) == []
    assert reasons(pruning.find_removable(store, everything=True)) == ["unpublished"]
    assert reasons(pruning.find_removable(store, now=time.time() + 2 * pruning.DAY)) == [
        "unpublished"
    ]


def test_leftovers_of_a_kill(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    kept, cut, lost = (write(store, key) for key in "abc")
    root = Path(store.root)
    folder = root / store.folder(SPACE)
    entry = folder / "index" / f"{cut}.json"
    entry.write_text(entry.read_text()[:-9])
    store.withdraw(SPACE, lost)
    parts = [
        root / "store.json.0.part",
        folder / "space.json.0.part",
        folder / "index" / f"{kept}.json.0.part",
    ]
    for part in parts:
        part.write_text("x")
    age(store.root)
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    assert prune("--dry-run") == 0
    assert capsys.readouterr().out.endswith(" bytes would be freed\n")
    assert all(part.exists() for part in parts)
    assert prune() == 0
    out = capsys.readouterr().out
    assert "numbers: 5 unpublished, " in out
    left = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    assert out.splitlines()[-1] == f"{size - left:,} bytes freed"
    assert [path.name for path in (folder / "segments").iterdir()] == [kept]
    assert [path.name for path in (folder / "index").iterdir()] == [f"{kept}.json"]
    assert not list(root.rglob("*.part"))
    assert store.read(SPACE, list(store.index(SPACE).values())).shape == (1, 4)


def test_duplicates_go_and_their_rows_stay(store: Store) -> None:
    first, second = sorted((write(store, "a"), write(store, "a")))
    write(store, "a", "b")
    before = store.index(SPACE)
    age(store.root)
    removals = pruning.find_removable(store)
    # the segment with b serves it, whichever serves a
    assert reasons(removals) in (["duplicate"], ["duplicate"] * 2)
    pruning.remove(store, removals)
    assert store.index(SPACE) == before
    assert not (Path(store.root) / store.folder(SPACE) / "segments" / second).exists()
    assert pruning.find_removable(store) == []
    assert first


@pytest.mark.parametrize("damaged_first", [True, False])
@pytest.mark.parametrize("harm", ["bit", "description"])
def test_checksums_are_held_before_a_copy_goes(
    store: Store, harm: str, damaged_first: bool
) -> None:
    """A flipped bit changes no size: only reading tells the sound copy from the damaged one."""
    segments = sorted(write(store, "a", "b") for _ in range(2))
    hurt, sound = segments if damaged_first else reversed(segments)
    folder = Path(store.root) / store.folder(SPACE) / "segments" / hurt
    file = folder / ("c/0/0" if harm == "bit" else "zarr.json")
    data = bytearray(file.read_bytes())
    data[-3] ^= 0x20
    file.write_bytes(data)
    removals = pruning.find_removable(store, everything=True)
    assert reasons(removals) == ["damaged" if damaged_first else "duplicate"]
    pruning.remove(store, removals)
    assert [entry.segment for entry in store.entries(SPACE)] == [sound]
    assert len(store.read(SPACE, list(store.index(SPACE).values()))) == 2


def test_a_damaged_segment_with_the_only_copy_of_a_row_stays(store: Store) -> None:
    both = write(store, "a", "only")
    while (copy := write(store, "a")) < both:  # the damaged one comes first by name
        store.withdraw(SPACE, copy)
    file = Path(store.root) / store.folder(SPACE) / "segments" / both / "c/0/0"
    data = bytearray(file.read_bytes())
    data[0] ^= 1  # of row a
    file.write_bytes(data)
    pruning.remove(store, pruning.find_removable(store, everything=True))
    index = store.index(SPACE)
    assert {entry.segment for entry in store.entries(SPACE)} == {both, copy}
    assert len(store.read(SPACE, [index["only"]])) == 1


@pytest.mark.parametrize("harm", ["gone", "short", "undescribed"])
def test_the_only_sound_copy_stays(store: Store, harm: str) -> None:
    """Whichever of two comes first by name; the damaged one goes."""
    for first in (True, False):
        segments = sorted(write(store, "a", "b") for _ in range(2))
        torn = segments[0 if first else 1]
        folder = Path(str(store.root)) / store.folder(SPACE) / "segments" / torn
        data = folder / "c" / "0" / "0"
        if harm == "gone":
            data.unlink()
        elif harm == "short":
            data.write_bytes(data.read_bytes()[:-1])
        else:
            (folder / "zarr.json").unlink()
        removals = pruning.find_removable(store, everything=True)
        assert reasons(removals) == ["unpublished"]
        assert all(torn in name for removal in removals for name in removal.names)
        pruning.remove(store, removals)
        index = Store(store.root).index(SPACE)
        assert len(store.read(SPACE, list(index.values()))) == 2
        store.withdraw(SPACE, next(iter(index.values())).segment)
        pruning.remove(store, pruning.find_removable(store, everything=True))


def test_unused_rows(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    used, mixed, unused = write(store, "a"), write(store, "b", "c"), write(store, "d")
    text = write(store, "prompt", space=TEXT)
    for artefact in RECEIPTS:
        write_receipt(artefact, store, {SPACE: ["a", "b"]} if artefact is TEST else {})
    age(store.root)
    assert prune() == 0
    assert set(store.index(SPACE)) == set("abcd")
    assert prune("--unused") == 0
    assert "numbers: 1 unused" in capsys.readouterr().out
    segments = {
        path.name for path in (Path(store.root) / store.folder(SPACE) / "segments").iterdir()
    }
    assert segments == {used, mixed}
    assert unused not in segments
    assert (Path(store.root) / store.folder(TEXT) / "segments" / text).exists()
    assert all(artefact.path.exists() for artefact in RECEIPTS)


def test_unused_needs_every_receipt(store: Store) -> None:
    write(store, "a")
    for artefact in RECEIPTS[1:]:
        write_receipt(artefact, store, {})
    with pytest.raises(StoreError, match=r"references\.parquet is missing"):
        needed_rows()
    assert prune("--unused", "--all") == 5
    assert set(store.index(SPACE)) == {"a"}


def test_receipts_of_what_is_gone_go(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    segment = write(store, "a")
    for artefact in RECEIPTS:
        write_receipt(artefact, store, {SPACE: ["a"]} if artefact is TEST else {})
    store.withdraw(SPACE, segment)
    assert prune("--all") == 0
    assert f"{TEST.path} deleted" in capsys.readouterr().out
    assert [a for a in RECEIPTS if not a.path.exists()] == [TEST]
