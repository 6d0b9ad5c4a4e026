"""Faults of the machine: full disks, closed folders, clocks that jump, stores copied half.

Each ends in one clear line with a documented exit code, and a plain re-run on a repaired machine ends
with the bytes of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cache import pruning
from cache.store import Store
from pipeline.artefacts.catalogue import ARTEFACTS
from tests.forks import End, Forks, Run
from tests.projects import STAGES, lay_pipeline
from tests.stages.undisturbed import BLOCK, Undisturbed, outputs, rows

YEARS = 10 * 365 * pruning.DAY


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[str], None]]:
    """A file system of so many KiB at a folder, what lay there included; gives a way to change it.

    The test is skipped where this user may mount nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = shutil.copytree(folder, f"{folder}.kept")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(folder)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount).returncode:
        pytest.skip("only root may mount a small disk here")

    def change(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    try:
        change("size=100m")
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        change(f"size={size}k")
        yield change
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def size_of(folder: Path) -> int:
    """KiB that a file system by pages needs for a folder."""
    return sum(4 * -(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file())


def assert_one_line(end: End, stage: str, *clues: str) -> None:
    """It ended as a store or artefact that cannot be used, in one line."""
    assert end.code == 5, end.stderr
    (line,) = [line for line in end.stderr.splitlines() if "error:" in line]
    assert line.startswith(f"{stage}: error: ")
    for clue in clues:
        assert clue in line
    assert "Traceback" not in end.stderr


def with_store(plain: Path, folder: Path, store: Path) -> Path:
    """A copy of a project whose store lies elsewhere, as a clone; all others here are of `fade new`."""
    shutil.copytree(plain, folder)
    lay_pipeline(folder, "clone")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["features"]["store"] = str(store)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    if (folder / ".fade" / "store").is_dir():
        shutil.move(folder / ".fade" / "store", store)
    return folder


@pytest.mark.parametrize("stage", ["extract", "text", "score_language", "score_vision"])
def test_a_store_that_is_full(
    stage: str, undisturbed: dict[str, Undisturbed], forks: Forks, tmp_path: Path
) -> None:
    plain = undisturbed[stage]
    store = tmp_path / "store"
    folder = with_store(plain.before, tmp_path / "now", store)
    before = size_of(store) if store.exists() else 0
    growth = size_of(plain.after / ".fade" / "store") - before
    # all but a page fits: what is written last does not, whatever else is being written at that time
    with small_disk(store, before + growth - 4) as change:
        run = Run(stage, str(folder), small=BLOCK)
        full = forks.run(run)
        assert_one_line(
            full, stage, str(store), "no space is left", "what was stored before is kept"
        )
        kept = len(set(rows(folder, store))) - len(set(rows(plain.before)))
        assert kept > 0
        change("size=100m")
        again = forks.run(run)
        assert again.code == 0, again.stderr
        assert outputs(folder) == outputs(plain.after)
        assert sorted(rows(folder, store)) == sorted(rows(plain.after))
        assert sum(again.work) < sum(plain.end.work)


def test_results_that_do_not_fit(
    undisturbed: dict[str, Undisturbed], forks: Forks, tmp_path: Path
) -> None:
    """However little room there is, the line says so; what comes too late to fit is no half file."""
    plain = undisturbed["evaluate"]
    folder = shutil.copytree(plain.before, tmp_path / "now")
    whole = size_of(plain.after / "results")
    run = Run("evaluate", str(folder), small=BLOCK)
    with small_disk(folder / "results", 4) as change:
        told = set()
        for size in range(4, whole, max(4, whole // 8 // 4 * 4)):
            change(f"size={size}k")
            full = forks.run(run)
            assert_one_line(full, "evaluate", "no space is left", "run again")
            told.add(full.stderr.split("error: ")[1].split(":")[0])
            for path in (folder / "results").glob("*.json"):
                json.loads(path.read_text())
            # as DVC does before a run
            for path in (folder / "results").glob("*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert len(told) > 1, "maps and tables alike run out of room"
        change("size=100m")
        assert forks.run(run).code == 0
        assert outputs(folder) == outputs(plain.after)


def test_a_report_that_does_not_fit(
    undisturbed: dict[str, Undisturbed], forks: Forks, tmp_path: Path
) -> None:
    plain = undisturbed["report"]
    folder = shutil.copytree(plain.before, tmp_path / "now")
    run = Run("report", str(folder))
    room = size_of(folder / "results")
    with small_disk(folder / "results", room + 40) as change:
        assert_one_line(forks.run(run), "report", "no space is left")
        change("size=100m")
        assert forks.run(run).code == 0
        assert outputs(folder) == outputs(plain.after)


def test_banks_and_classifiers_that_do_not_fit(
    undisturbed: dict[str, Undisturbed], forks: Forks, tmp_path: Path
) -> None:
    for stage in ("bank", "text"):
        plain = undisturbed[stage]
        folder = shutil.copytree(plain.before, tmp_path / stage)
        place = {"bank": "banks", "text": "text"}[stage]
        (folder / "artefacts" / place).mkdir(exist_ok=True)
        room = size_of(folder / "artefacts")
        with small_disk(folder / "artefacts", room + 8) as change:
            run = Run(stage, str(folder), small=BLOCK)
            assert_one_line(forks.run(run), stage, "artefacts")
            change("size=100m")
            assert forks.run(run).code == 0
            assert outputs(folder) == outputs(plain.after)


def test_no_room_for_logs_stops_nothing(
    undisturbed: dict[str, Undisturbed], forks: Forks, tmp_path: Path
) -> None:
    plain = undisturbed["select"]
    folder = shutil.copytree(plain.before, tmp_path / "now")
    with small_disk(folder / "logs", 4):
        with suppress(OSError):
            (folder / "logs" / "old.log").write_bytes(bytes(1 << 20))  # it is full now
        end = forks.run(Run("select", str(folder)))
        assert end.code == 0, end.stderr
        assert "Logging error" not in end.stderr
        assert "Traceback" not in end.stderr
        assert outputs(folder) == outputs(plain.after)


def test_a_read_only_store(
    undisturbed: dict[str, Undisturbed], forks: Forks, tmp_path: Path
) -> None:
    """Nothing can be added to it; what is in it can be used."""
    plain = undisturbed["score_vision"]
    store = tmp_path / "store"
    folder = with_store(plain.before, tmp_path / "now", store)
    with small_disk(store, 100_000) as change:
        change("ro")
        end = forks.run(Run("score_vision", str(folder), small=BLOCK))
        assert_one_line(end, "score_vision", "read-only", "features.store")
        assert outputs(folder) == outputs(plain.before)
        bank = forks.run(Run("bank", str(folder)))
        assert bank.code == 0, bank.stderr
        change("rw")
        assert forks.run(Run("score_vision", str(folder), small=BLOCK)).code == 0
        assert outputs(folder) == outputs(plain.after)


def test_a_read_only_project(
    undisturbed: dict[str, Undisturbed], forks: Forks, tmp_path: Path
) -> None:
    plain = undisturbed["evaluate"]
    folder = shutil.copytree(plain.before, tmp_path / "now")
    with small_disk(folder, 100_000) as change:
        change("ro")
        end = forks.run(Run("evaluate", str(folder), small=BLOCK))
        assert_one_line(end, "evaluate", "read-only", "run again")
        change("rw")
        assert forks.run(Run("evaluate", str(folder), small=BLOCK)).code == 0
        assert outputs(folder) == outputs(plain.after)


def test_folders_of_somebody_else(undisturbed: dict[str, Undisturbed], forks: Forks) -> None:
    plain = undisturbed["select"]
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        folder = shutil.copytree(plain.before, Path(place) / "now")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        end = forks.run(Run("select", str(folder), nobody=root))
        assert_one_line(end, "select", "artefacts", "permission denied", "run again")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        assert forks.run(Run("select", str(folder))).code == 0
        assert outputs(folder) == outputs(plain.after)


@pytest.mark.parametrize("jump", [-time.time(), YEARS], ids=["1970", "in ten years"])
def test_a_clock_that_jumped(
    jump: float, undisturbed: dict[str, Undisturbed], forks: Forks, tmp_path: Path
) -> None:
    """Times of files decide nothing: not what is computed, nor what is read."""
    plain = undisturbed["score_vision"]
    folder = shutil.copytree(plain.before, tmp_path / "now")
    then = max(0.0, time.time() + jump)
    for number, path in enumerate(sorted(folder.rglob("*"))):
        os.utime(path, (then + number, then + number))
    end = forks.run(Run("score_vision", str(folder), small=BLOCK))
    assert end.code == 0, end.stderr
    assert outputs(folder) == outputs(plain.after)
    assert end.work == plain.end.work


def test_pruning_with_a_clock_that_jumped(
    undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    """A running writer's segment looks old: it may go, but not be read as if it were there."""
    folder = shutil.copytree(undisturbed["extract"].after, tmp_path / "now")
    store = Store(folder / ".fade" / "store")
    space = store.spaces()[0]
    entry = sorted((folder / ".fade" / "store" / store.folder(space) / "index").glob("*.json"))[0]
    keys, text = json.loads(entry.read_text())["keys"], entry.read_text()
    entry.unlink()  # the writer is just about to publish
    assert pruning.find_removable(store) == []
    removals = pruning.find_removable(store, now=time.time() + YEARS)
    assert {removal.reason for removal in removals} == {"unpublished"}
    pruning.remove(store, removals)
    entry.write_text(text)
    assert set(store.index(space)) - set(store.readable(space)) == set(keys)
    assert entry.exists()  # to look is not to repair
    assert set(store.repair(space)) == set(store.index(space))
    assert not entry.exists()
    # files from the future are kept by everybody but --all
    (folder / ".fade" / "store" / "store.json.0.part").write_text("x")
    os.utime(folder / ".fade" / "store" / "store.json.0.part", (time.time() + YEARS,) * 2)
    assert pruning.find_removable(store) == []
    assert pruning.find_removable(store, everything=True)


def repro(folder: Path, forks: Forks) -> list[End]:
    """What ``dvc repro`` does: stages whose outputs are gone, and those after one that ran."""
    ends: list[End] = []
    for stage in STAGES[2:-1]:
        outputs = [artefact.path for artefact in ARTEFACTS if artefact.stage == stage]
        if not ends and all((folder / path).exists() for path in outputs):
            continue
        ends.append(forks.run(Run(stage, str(folder), small=BLOCK)))
        if ends[-1].code:
            break
    return ends


def test_a_store_copied_half(
    undisturbed: dict[str, Undisturbed], forks: Forks, tmp_path: Path
) -> None:
    """Segments without entries, entries without segments, files cut short, descriptions lost."""
    plain = undisturbed["evaluate"]
    folder = shutil.copytree(plain.after, tmp_path / "now")
    store = folder / ".fade" / "store"
    for space in sorted((store / "spaces").iterdir()):
        for number, entry in enumerate(sorted((space / "index").iterdir())):
            segment = space / "segments" / entry.stem
            files_of = [path for path in segment.rglob("*") if path.is_file()]
            match number % 6:
                case 0:
                    shutil.rmtree(segment)
                case 1 | 2:
                    half = sorted(files_of)[number % 6 - 1]  # the rows, or what they are
                    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
                case 3:
                    entry.write_text(entry.read_text()[:-30])
                case 4:
                    (segment / "zarr.json").unlink()
        if int(space.name[0], 16) % 2:
            (space / "space.json").unlink()
    (store / "store.json").unlink()
    shutil.rmtree(folder / "results")
    failed = 0
    for _ in range(4):
        ends = repro(folder, forks)
        if ends[-1].code == 0:
            break
        failed += 1
        assert_one_line(ends[-1], Path(ends[-1].stderr.split(":")[0]).name, "computed anew")
    # evaluate names what it lacks, and sends all stages back that lack something
    assert failed == 1
    assert outputs(folder) == outputs(plain.after)
    assert set(rows(folder)) == set(rows(plain.after))


def test_a_store_whose_version_was_cut_short(
    undisturbed: dict[str, Undisturbed], forks: Forks, tmp_path: Path
) -> None:
    plain = undisturbed["score_language"]
    folder = shutil.copytree(plain.before, tmp_path / "now")
    marker = folder / ".fade" / "store" / "store.json"
    for text in ("", "{", "[]"):
        marker.write_text(text)
        run = Run("score_language", str(folder), small=BLOCK)
        assert_one_line(forks.run(run), "score_language", "store.json", "delete it and run again")
    marker.unlink()
    assert forks.run(run).code == 0
    assert outputs(folder) == outputs(plain.after)


def test_a_disturbed_bank_never_reaches_faiss(
    undisturbed: dict[str, Undisturbed], forks: Forks, tmp_path: Path
) -> None:
    """FAISS believes what a file says, so a flipped bit could hang it or change numbers unseen."""
    plain = undisturbed["score_vision"]
    folder = shutil.copytree(plain.before, tmp_path / "now")
    bank = next((folder / "artefacts" / "banks").rglob("*.faiss"))
    whole = bank.read_bytes()
    for place in (5, 9, 30, len(whole) // 2, len(whole) - 1):
        bank.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        end = forks.run(replace(Run("score_vision", str(folder), small=BLOCK)))
        assert_one_line(end, "score_vision", bank.name, "fade run --force bank")
    bank.write_bytes(whole)
    assert forks.run(Run("score_vision", str(folder), small=BLOCK)).code == 0
    assert outputs(folder) == outputs(plain.after)


def test_repair_leaves_a_whole_store_alone(
    undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    folder = shutil.copytree(undisturbed["score_vision"].after, tmp_path / "now")
    root = folder / ".fade" / "store"
    store = Store(root)
    before = sorted(root.rglob("*"))
    for space in store.spaces():
        assert store.repair(space) == store.readable(space) == store.index(space)
    assert sorted(root.rglob("*")) == before
