"""What an evaluation server or script wants of a finished run: exact files, checked and packed."""

from __future__ import annotations

import gzip
import os
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from cache.location import open_path
from fade.datasets.names import few
from fade.datasets.read import iterate_dataset
from fade.datasets.tree import AD_2_PRIVATE
from fade.errors import DataError, ParameterError, StoreError, counted
from fade.files import atomic_write, tidy
from fade.types import DatasetFormat, ImageRecord
from pipeline.artefacts.catalogue import MANIFEST, prepare_folder
from pipeline.artefacts.pictures import writing
from pipeline.artefacts.tables import read_table
from pipeline.inference.exports import Dtype, maps, write_maps, write_masks
from pipeline.inference.pixel_calls import check_pixel_thresholds
from pipeline.inference.run import FinishedRun

if TYPE_CHECKING:
    import pandas as pd

Target = Literal["mvtec-ad-2", "mvtec-ad", "mvtec-loco"]

AD_2_OBJECTS = {
    "can": 321, "fabric": 314, "fruit_jelly": 255, "rice": 277, "sheet_metal": 142, "vial": 276,
    "wallplugs": 232, "walnuts": 228,
}  # fmt: skip
"""The objects of MVTec AD 2, with how many images each of their two private sets has: its server wants
all of them in a submission."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The files that one target wants.

    Attributes:
        formats: of data sets that it is made for.
        maps: folder of the maps.
        masks: folder of the masks; None where there are none.
        dtype: of the maps' numbers.
        packed: whether it is uploaded, as one archive.
    """

    formats: tuple[DatasetFormat, ...]
    maps: str
    masks: str | None
    dtype: Dtype
    packed: bool


TARGETS: dict[Target, Wanted] = {
    "mvtec-ad-2": Wanted(
        ("mvtec-ad-2",), "anomaly_images", "anomaly_images_thresholded", "float16", True
    ),
    "mvtec-ad": Wanted(("mvtec", "folder"), "anomaly_maps", None, "float32", False),
    "mvtec-loco": Wanted(("mvtec-loco",), "anomaly_maps", None, "float32", False),
}
"""MVTec AD 2's evaluation server; the evaluation scripts of MVTec AD and of MVTec LOCO AD."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What was written.

    Attributes:
        maps, masks: number of files.
        archive: that holds them; None where they were not packed.
        notes: what to know before it is uploaded, a sentence each.
    """

    maps: int
    masks: int
    archive: Path | None
    notes: tuple[str, ...]


def write_submission(
    run: FinishedRun,
    folder: Path,
    target: Target,
    *,
    masks: bool = True,
    pack: bool | None = None,
    force: bool = False,
) -> Submission:
    """Write the maps and masks that a target wants of a run, and check that they are just these.

    The images are those of the data set as it lies there now; a run that lacks one is refused.

    Args:
        folder: to write into, made if missing; it gives the archive its name.
        masks: whether masks are written, where the target takes them.
        pack: whether an archive ``folder.tar.gz`` is written; by default where it is uploaded.
        force: write into a folder that holds an earlier submission, and over its archive.

    Raises:
        ParameterError: the run's format is another, it has no maps or pixel thresholds, or the folder
            holds other files.
        DataError: the run lacks images of the data set, or has others.
        StoreError: score components are gone, or a file cannot be written.
    """
    wanted = TARGETS[target]
    format = run.params.dataset.format
    if format not in wanted.formats:
        raise ParameterError(
            f"dataset.format is {format}, and a submission for {target} needs "
            f"{' or '.join(wanted.formats)}"
        )
    tests = _chosen_images(run, target)
    names = [_place(name, category, target) for name, category in _names(tests)]
    parts: list[tuple[str, str]] = [(wanted.maps, "tiff")]
    if masks and wanted.masks is not None:
        check_pixel_thresholds(run, tests)
        parts.append((wanted.masks, "png"))
    files = {f"{part}/{name}.{suffix}" for part, suffix in parts for name in names}
    found = maps(run, tests)
    archive = folder.with_name(f"{folder.name}.tar.gz")
    pack = wanted.packed if pack is None else pack
    _prepare(folder, files, archive if pack else None, force)
    write_maps(run, tests, names, found, folder / wanted.maps, dtype=wanted.dtype)
    if len(parts) == 2:
        write_masks(run, tests, names, maps(run, tests), folder / parts[1][0])
    _check(folder, files)
    if pack:
        _pack(folder, sorted(files), archive)
    notes = _notes(tests) if target == "mvtec-ad-2" else ()
    return Submission(len(names), len(files) - len(names), archive if pack else None, notes)


def _names(tests: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(tests["name"].astype(str), tests["category"].astype(str), strict=True))


def _chosen_images(run: FinishedRun, target: Target) -> pd.DataFrame:
    """The run's test images that the target wants, which must be those of the data set."""
    manifest, _ = read_table(run.folder / MANIFEST.path)
    tests = manifest[manifest["split"] == "test"]
    private = tests["is_anomaly"].isna()
    tests = tests[private if target == "mvtec-ad-2" else ~private].reset_index(drop=True)
    dataset = run.params.dataset
    categories = None if target == "mvtec-ad-2" else dataset.categories
    there = {
        record.path: record
        for record in iterate_dataset(dataset.format, open_path(dataset.path), categories)
        if record.split == "test" and _is_wanted(record, target)
    }
    if not there:
        raise DataError(
            f"{dataset.path} has no test image that a submission for {target} is made of"
        )
    mine = set(tests["path"])
    if lacking := [path for path in there if path not in mine]:
        raise DataError(
            f"the run lacks {len(lacking)} of {counted(len(there), 'image')} for {target}, such as "
            f"{lacking[0]}: run without dataset.limit, with all categories and with every image that can "
            "be read (dataset.on_bad_image)"
        )
    if gone := [path for path in tests["path"] if path not in there]:
        raise DataError(
            f"{dataset.path} no longer has {counted(len(gone), 'image')} of the run, such as {gone[0]}: "
            "bring the run up to date with `fade run`"
        )
    return tests


def _is_wanted(record: ImageRecord, target: Target) -> bool:
    return (record.is_anomaly is None) == (target == "mvtec-ad-2")


def _place(name: str, category: str, target: Target) -> PurePosixPath:
    """Where the file of an image lies below the folder of maps or masks, without suffix."""
    parts = PurePosixPath(name).parts
    if target == "mvtec-ad-2" and len(parts) >= 2 and parts[-2] in AD_2_PRIVATE:
        return PurePosixPath(category, *parts[-2:])
    if target != "mvtec-ad-2" and len(parts) >= 3 and parts[-3] == "test":
        return PurePosixPath(category, *parts[-3:])
    raise DataError(
        f"{name} does not lie as {target} has its images: no place for its map is known"
    )


def _prepare(folder: Path, files: set[str], archive: Path | None, force: bool) -> None:
    prepare_folder(folder)
    if force:
        _refuse_superfluous(folder, files)
    elif any(folder.iterdir()):
        raise ParameterError(
            f"{folder} is not empty: name another folder, or write over an earlier submission "
            "with --force"
        )
    elif archive is not None and archive.exists():
        raise ParameterError(
            f"{archive} is there already: remove it, or write over it with --force"
        )


def _found_files(folder: Path) -> list[str]:
    """All files below a folder, and folders that hold none, relative to it; no killed writer's."""
    found = []
    tidy(folder)
    for place, folders, files in os.walk(folder):
        for name in folders:
            tidy(Path(place, name))  # before it is listed
        names = files if files or folders else [""]
        found += [Path(place, name).relative_to(folder).as_posix() for name in names]
    return sorted(path for path in found if path != ".")


def _refuse_superfluous(folder: Path, files: set[str]) -> list[str]:
    found = _found_files(folder)
    # a kill leaves folders empty
    own = {str(place) for file in files for place in PurePosixPath(file).parents}
    if other := [path for path in found if path not in files and path not in own]:
        raise ParameterError(
            f"{folder} holds files or folders that are no part of the submission ({len(other)}): "
            f"{few(other)}: remove them, or name another folder"
        )
    return found


def _check(folder: Path, files: set[str]) -> None:
    """Refuse a folder that does not hold just these files."""
    if missing := sorted(files - set(_refuse_superfluous(folder, files))):
        raise StoreError(
            f"{folder} lacks {counted(len(missing), 'file')} just written, such as {missing[0]}: run "
            "the command again"
        )


def _pack(folder: Path, files: Sequence[str], archive: Path) -> None:
    """Write an archive of some files below a folder: the same bytes for the same files."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o644
        return entry

    with (
        writing(archive),
        atomic_write(archive) as part,
        part.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name in files:
            tar.add(folder / name, f"{folder.resolve().name}/{name}", filter=plain)


def _notes(tests: pd.DataFrame) -> tuple[str, ...]:
    """What MVTec AD 2's server would refuse, though it is what the data set at hand has."""
    found = set(tests["category"])
    notes = []
    if missing := [name for name in AD_2_OBJECTS if name not in found]:
        notes.append(
            f"the server wants all {len(AD_2_OBJECTS)} objects, and the data set lacks "
            f"{', '.join(missing)}"
        )
    folders = [PurePosixPath(path).parent.name for path in tests["path"]]
    counts = Counter(zip(tests["category"], folders, strict=True))
    if others := [
        f"{counts[name, folder]} of {count} in {name}/{folder}"
        for name, count in AD_2_OBJECTS.items()
        for folder in AD_2_PRIVATE
        if name in found and counts[name, folder] != count
    ]:
        notes.append(f"the server wants another number of images: the data set has {few(others)}")
    if other := sorted(found - set(AD_2_OBJECTS)):
        notes.append(f"the server knows no object {few(other)}")
    return tuple(notes)
