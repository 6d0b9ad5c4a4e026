"""Every row of a store is accounted for, in a folder and in a bucket, also when two share it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cache import maintenance, pruning
from cache.layout import Space
from cache.segment import data_name
from cache.store import DamagedSegmentError, Store
from pipeline.artefacts.catalogue import ARTEFACTS, REFERENCES, TEST
from pipeline.artefacts.receipts import read_receipt, write_receipt
from pipeline.cli.main import main
from pipeline.config.originals import TEMPLATE
from tests.imports import ROOT
from tests.projects import nobody_reads

SPACE = Space("numbers", {"kind": "test"}, (4,), "float32")
OTHER = Space("others", {"kind": "test"}, (2, 2), "float16")
RECEIPTS = [artefact for artefact in ARTEFACTS if artefact.receipt]


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    place: Path | str = tmp_path / ".fade" / "store"
    if request.param == "s3":
        place = f"{request.getfixturevalue('bucket').url}/store"
        # receipts are those of the store that params.yaml names
        content = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
        content["features"]["store"] = place
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    store = Store(place)
    for space in (SPACE, OTHER):
        store.register(space)
    return store


def write(store: Store, *keys: str, value: float = 1, space: Space = SPACE) -> str:
    rows = np.full((len(keys), *space.shape), value)
    return store.write(space, keys, rows)[0].segment


def fade(store: Store, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["cache", *arguments, "--store", str(store.root)])
    return int(ended.value.code or 0)


def in_days(days: float) -> float:
    return time.time() + days * pruning.DAY


def test_a_sound_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write(store, "a", "b")
    write(store, "b")
    write(store, "c", space=OTHER)
    assert fade(store, "verify") == 0
    assert sorted(line.split(" ", 2)[2] for line in capsys.readouterr().out.splitlines()) == [
        "1 row is sound", "2 rows are sound, and 1 copy of them",
    ]  # fmt: skip
    assert fade(store, "info", "--json") == 0
    infos = {info["label"]: info for info in json.loads(capsys.readouterr().out)}
    assert (infos["numbers"]["rows"], infos["others"]["segments"]) == (2, 1)
    size = sum(file.bytes for file in store.files.list("spaces"))
    assert sum(info["bytes"] for info in infos.values()) == size


def test_every_row_is_accounted_for(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    kept, hurt, gone, cut, bare = (write(store, key) for key in "abcde")
    for artefact in RECEIPTS:
        write_receipt(artefact, store, {SPACE: list("abcde")} if artefact is TEST else {})
    receipt = TEST.path.read_bytes()
    folder = store.folder(SPACE)
    data = f"{folder}/segments/{hurt}/c/0/0"
    store.files.write(data, store.files.read(data, 99)[:-1] + b"!")
    store.files.delete([f"{folder}/segments/{gone}/{name}" for name in ("c/0/0", "zarr.json")])
    entry = f"{folder}/index/{cut}.json"
    store.files.write(entry, store.files.read(entry, 999)[:-9])
    store.withdraw(SPACE, bare)
    store.files.write(f"{folder}/index/notes.txt", b"x")
    store.files.write(f"spaces/{OTHER.fingerprint}/space.json", b"{")
    again = Store(store.root)
    assert fade(again, "verify", "--json") == 5
    report, errors = capsys.readouterr()
    found = json.loads(report)
    (space,) = found["spaces"]
    assert (space["rows"], space["copies"]) == (1, 0)
    assert [line.split()[1] for line in space["damaged"]] == sorted((hurt, gone))
    assert not found["repaired"]
    assert space["unpublished"] == sorted((cut, bare))
    assert space["strange"] == sorted((f"{cut}.json", "notes.txt"))
    assert found["nameless"] == [OTHER.fingerprint]
    assert [item["receipt"] for item in found["lost"]] == [str(TEST.path)]
    assert "lacks 4 of 5 rows of numbers" in found["lost"][0]["reason"]
    assert "2 damaged segments, 1 receipt with rows that are gone" in errors
    assert fade(again, "verify") == 5  # nothing was changed
    assert f"damaged: segment {hurt} of numbers" in capsys.readouterr().out
    assert fade(again, "verify", "--repair") == 0
    assert "repaired: 2 damaged segments, 1 receipt" in capsys.readouterr().out
    assert not TEST.path.exists()
    TEST.path.write_bytes(receipt)
    again = Store(store.root)
    assert fade(again, "verify") == 5  # the damaged ones are out of the index now
    out = capsys.readouterr().out
    assert f"no index entry: segments/{hurt}" in out
    assert f"publishes nothing: index/{cut}.json" in out
    assert f"spaces/{OTHER.fingerprint}: its space.json is gone" in out
    assert f"lost: {TEST.path}: the store at {store.root} lacks 4 of 5 rows" in out
    assert fade(again, "prune", "--all") == 0
    assert f"{TEST.path} deleted" in capsys.readouterr().out
    left = {file.name for file in store.files.list(folder)}
    assert left == {
        f"{folder}/{name}"
        for name in (
            "space.json", f"index/{kept}.json", f"segments/{kept}/zarr.json",
            f"segments/{kept}/c/0/0",
        )
    }  # fmt: skip
    assert fade(again, "verify") == 0
    assert not TEST.path.exists()


def test_leftovers_go_when_they_are_old(store: Store) -> None:
    write(store, "a")
    first, second = sorted((write(store, "b"), write(store, "b")))
    lost = write(store, "c")
    store.withdraw(SPACE, lost)
    store.files.write("0.part", b"x")
    store.files.write(f"{store.folder(SPACE)}/space.json.0.part", b"x")
    assert pruning.find_removable(store) == []
    removals = pruning.find_removable(store, now=in_days(2))
    assert sorted((r.label, r.reason) for r in removals) == [
        ("numbers", "duplicate"), ("numbers", "unpublished"), ("numbers", "unpublished"),
        ("store", "unpublished"),
    ]  # fmt: skip
    before = sum(file.bytes for file in store.files.list(""))
    pruning.remove(store, removals)
    after = sum(file.bytes for file in store.files.list(""))
    assert before - after == sum(removal.bytes for removal in removals)
    assert sorted(store.index(SPACE)) == list("abc")[:2]
    assert store.files.names(f"{store.folder(SPACE)}/segments").folders.count(second) == 0
    assert store.index(SPACE)["b"].segment == first
    assert pruning.find_removable(store, everything=True) == []


def test_copying(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Into an empty store, into one with other rows, again, and back: each row once."""
    write(store, "a", "b", value=1)
    write(store, "b", "c", value=1)
    write(store, "d", space=OTHER)
    other = Store(tmp_path / "other")
    other.register(SPACE)
    write(other, "c", "e", value=1)

    def copied(*places: object) -> dict[str, int]:
        with pytest.raises(SystemExit) as ended:
            main(["cache", "copy", *map(str, places), "--json"])
        assert not ended.value.code
        return {item["label"]: item["rows"] for item in json.loads(capsys.readouterr().out)}

    assert copied(store.root, other.root) == {"numbers": 2, "others": 1}
    assert copied(store.root, other.root) == {"numbers": 0, "others": 0}
    assert copied(other.root, store.root) == {"numbers": 1, "others": 0}
    for place in (store.root, other.root):
        again = Store(place)
        assert sorted(again.index(SPACE)) == list("abce")
        assert (
            maintenance.verify(again, SPACE).damaged
            == maintenance.verify(again, OTHER).damaged
            == {}
        )
    hurt = write(store, "f")
    store.files.delete([f"{store.folder(SPACE)}/segments/{hurt}/c/0/0"])
    with pytest.raises(SystemExit) as ended:
        main(["cache", "copy", str(store.root), str(other.root)])
    assert ended.value.code == 5
    assert f"segment {hurt} of numbers" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["cache", "copy", str(tmp_path / "none"), str(other.root)])
    assert ended.value.code == 5


def test_who_stops_reading_ends_no_work(store: Store, tmp_path: Path) -> None:
    """``fade cache copy A B | head`` copies all, and ``verify --repair | head`` repairs all."""
    write(store, "a")
    write(store, "b", space=OTHER)
    other = Store(tmp_path / "other")
    with nobody_reads(), pytest.raises(SystemExit) as ended:
        main(["cache", "copy", str(store.root), str(other.root)])
    assert not ended.value.code
    assert [len(Store(other.root).index(space)) for space in (SPACE, OTHER)] == [1, 1]
    hurt = [(space, write(store, "c", space=space)) for space in (SPACE, OTHER)]
    for space, segment in hurt:
        data = f"{store.folder(space)}/segments/{segment}/{data_name(1 + len(space.shape))}"
        store.files.write(data, store.files.read(data, 99)[:-1] + b"!")
    with nobody_reads():
        fade(Store(store.root), "verify", "--repair")
    again = Store(store.root)
    assert [maintenance.verify(again, space).damaged for space, _ in hurt] == [{}, {}]


def test_a_copy_takes_what_is_sound(store: Store, tmp_path: Path) -> None:
    """Of two segments with the same row the damaged one is passed over; the source stays as it is."""
    write(store, "a", "b")
    write(store, "b", "c")
    hurt = sorted(entry.segment for entry in store.entries(SPACE))[0]
    lost = "a" if "a" in next(iter(store.entries(SPACE))).keys else "c"
    data = f"{store.folder(SPACE)}/segments/{hurt}/c/0/0"
    store.files.write(data, bytes(32))
    before = [(file.name, file.bytes) for file in store.files.list("")]
    target = Store(tmp_path / "target")
    for _ in range(2):
        with pytest.raises(DamagedSegmentError, match=f"segment {hurt}"):
            list(maintenance.copy(store, target))
        assert set(target.index(SPACE)) == set("abc") - {lost}
    assert [(file.name, file.bytes) for file in store.files.list("")] == before
    write(store, lost)
    list(maintenance.copy(Store(store.root), target))
    assert sorted(target.index(SPACE)) == list("abc")


def test_other_bits_are_no_duplicate(store: Store) -> None:
    """Two machines may differ in the last bit; each one's receipt stays valid."""
    write(store, "a", value=1)
    write_receipt(TEST, store, {SPACE: ["a"]})
    other = replace(REFERENCES, path=REFERENCES.path.with_name("other.parquet"))
    for _ in range(8):  # by chance, half of them sort before the first
        write(store, "a", value=2)
        write(store, "a", value=1)
    crc = next(iter(read_receipt(TEST).rows["numbers"].values()))
    write_receipt(other, store, {SPACE: ["a"]})
    pruning.remove(store, pruning.find_removable(store, everything=True))
    assert len(list(store.entries(SPACE))) == 2
    (place,) = read_receipt(TEST).locate(store, "numbers", ["a"]).values()
    assert place.crc == crc
    assert store.read(SPACE, [place]).tolist() == [[1.0] * 4]
    read_receipt(other).locate(store, "numbers", ["a"])


def test_what_other_projects_need_is_kept(store: Store, tmp_path: Path) -> None:
    ours, theirs, nobodys = (write(store, key) for key in "abc")
    for artefact in RECEIPTS:
        write_receipt(artefact, store, {SPACE: ["b"]} if artefact is TEST else {})
    (tmp_path / "artefacts").rename(tmp_path / "theirs")
    (tmp_path / "project").mkdir()
    (tmp_path / "theirs").rename(tmp_path / "project" / "artefacts")
    for artefact in RECEIPTS:
        write_receipt(artefact, store, {SPACE: ["a"]} if artefact is TEST else {})
    assert fade(store, "prune", "--unused", "--all", "--keep", "project") == 0
    assert {e.segment for e in Store(store.root).entries(SPACE)} == {ours, theirs}
    assert fade(store, "prune", "--unused", "--all", "--keep", "nowhere") == 5
    assert fade(store, "prune", "--unused", "--all") == 0
    assert {e.segment for e in Store(store.root).entries(SPACE)} == {ours}
    assert nobodys


RUN = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np
from cache.layout import Space, batched
from cache.store import Store
from pipeline.artefacts.catalogue import TEST
from pipeline.artefacts.receipts import write_receipt
root, space, receipt, keys = json.load(sys.stdin)
space = Space.from_json(space)
store = Store(root)
print("ready", flush=True)
present = store.index(space)
lacking = [key for key in keys if key not in present]
store.prepare({space: len(lacking)})
for part in batched(lacking, 3):
    store.write(space, part, np.asarray([[float(key)] * 4 for key in part]))
write_receipt(replace(TEST, path=Path(receipt)), store, {space: keys})
"""


def test_two_runs_at_once_lose_nothing(store: Store, tmp_path: Path) -> None:
    """Two processes start on an empty store, with rows that overlap; both receipts hold."""
    runs = []
    wanted = {"one": [str(n) for n in range(40)], "two": [str(n) for n in range(59, 19, -1)]}
    for name, keys in wanted.items():
        process = subprocess.Popen(
            [sys.executable, "-c", RUN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdin is not None
        work: list[Any] = [str(store.root), SPACE.to_json(), str(tmp_path / name), keys]
        process.stdin.write(json.dumps(work))
        process.stdin.close()
        runs.append(process)
    for process in runs:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert process.wait(120) == 0
        process.stdout.close()
    index = store.index(SPACE)
    assert sorted(index, key=int) == [str(n) for n in range(60)]
    for name, keys in wanted.items():
        receipt = read_receipt(replace(TEST, path=tmp_path / name))
        places = receipt.locate(store, "numbers", keys)
        rows = store.read(SPACE, list(places.values()))
        assert rows[:, 0].tolist() == [float(key) for key in keys]
    assert maintenance.verify(store, SPACE).damaged == {}
    assert not [file for file in store.files.list("") if file.name.endswith(".part")]
