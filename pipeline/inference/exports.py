"""Maps and masks of a finished run as image files, in the layouts that evaluation servers read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cache.store import Store
from fade.errors import DataError, ParameterError, StoreError
from pipeline.artefacts.catalogue import (
    LANGUAGE,
    MANIFEST,
    TEST,
    VISION,
    Artefact,
    fitting_name,
    prepare_folder,
    safe_name,
    store_root,
)
from pipeline.artefacts.pictures import write_picture, writing
from pipeline.artefacts.receipts import read_receipt
from pipeline.artefacts.tables import read_table
from pipeline.evaluation.component import Component
from pipeline.evaluation.foreground import foregrounds
from pipeline.evaluation.recipe import Recipe, measured_size
from pipeline.inference.pixel_calls import PixelCalls, check_pixel_thresholds
from pipeline.inference.run import FinishedRun
from pipeline.process.progress import Progress
from pipeline.scoring.components import component_key

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["png", "tiff"]
Layout = Literal["mvtec", "dataset"]
Size = Literal["image", "map"]
Dtype = Literal["float32", "float16"]

BLOCK_IMAGES = 64


def component_of(
    run: FinishedRun, store: Store, artefact: Artefact, label: str, tests: pd.DataFrame
) -> Component:
    """Where a component of a trial's maps lies, of some test images.

    Raises:
        StoreError: rows of it are gone, or the receipt is of another run.
    """
    receipt = read_receipt(artefact, run.folder)
    try:
        by_category = receipt.compared_with[label]
        against = {
            category: entry[run.trial.label] if label == "vision-map" else entry
            for category in tests["category"].unique()
            if (entry := by_category[category])
        }
    except KeyError:
        raise StoreError(
            f"{receipt.path} knows no {label} of this run: run `fade run` to bring it up to date"
        ) from None
    for category, digest in against.items():
        run.check_same_run(label, category, digest)
    keys = (
        component_key(key, against[category])
        for key, category in zip(tests["hash"], tests["category"], strict=True)
    )
    return Component(receipt.space(label), receipt.located(store, label).locations(keys))


def exported_images(run: FinishedRun, categories: Sequence[str] | None = None) -> pd.DataFrame:
    """The run's test images in the manifest's order, of some categories or all.

    Raises:
        ParameterError: an unknown category.
        DataError: there are none.
    """
    for category in categories or ():
        run.check_category(category)
    manifest, _ = read_table(run.folder / MANIFEST.path)
    chosen = manifest["category"].isin(list(categories or run.categories))
    tests = manifest[(manifest["split"] == "test") & chosen].reset_index(drop=True)
    if tests.empty:
        raise DataError("there are no test images whose maps could be exported")
    return tests


def file_names(tests: pd.DataFrame, layout: Layout) -> list[PurePosixPath]:
    """A file name without suffix for each test image, relative to the export's folder.

    ``mvtec``: category/test/defect/name, whatever the data set's own layout; without a label
    category/test/name. ``dataset``: below the
    category the image's own folders, as MVTec AD 2 wants them. Names that would then be equal get
    the image's folders before them.

    Args:
        tests: with ``name`` (path without suffix), ``category`` and ``defect``.
        layout: see above.

    Raises:
        DataError: two images would get one file.
    """
    columns = (tests[column].astype(str) for column in ("name", "category", "defect"))
    rows = list(zip(*columns, strict=True))
    if layout == "dataset":
        paths = [_below(category, PurePosixPath(name)) for name, category, _ in rows]
        found = [path.with_name(_file(path.name)) for path in paths]
    else:
        folders = [
            PurePosixPath(_part(category), "test", *([_part(defect)] if defect else ()))
            for _, category, defect in rows
        ]
        found = [
            folder / _file(PurePosixPath(name).name)
            for folder, (name, _, _) in zip(folders, rows, strict=True)
        ]
        if len({str(path).lower() for path in found}) < len(found):
            found = [
                folder / _file(name.replace("/", "__"))
                for folder, (name, _, _) in zip(folders, rows, strict=True)
            ]
    taken: dict[str, str] = {}
    for path, (name, _, _) in zip(found, rows, strict=True):
        other = taken.setdefault(str(path).lower(), name)
        if other != name:
            raise DataError(f"{other} and {name} would both become {path}: rename one of them")
    return found


def _below(category: str, name: PurePosixPath) -> PurePosixPath:
    return name if name.parts[0] == category else PurePosixPath(_part(category), *name.parts)


def _part(name: str) -> str:
    """A name as one folder: itself where it can be one on any system, else quoted."""
    odd = set('<>:"/\\|?*') & set(name) or not name.isprintable() or name.strip(" .") != name
    return safe_name(name) if odd or not name else fitting_name(name)


def _file(name: str) -> str:
    """A file's name without its suffix, which must fit too."""
    return fitting_name(name, len(".tiff"))


def maps(run: FinishedRun, tests: pd.DataFrame) -> Iterator[NDArray[np.float64]]:
    """The fused maps of some test images as numbers, from the components in the store.

    Neither cut to 256 levels nor to [0, 1]; (H, W) each, on the largest grid.

    Raises:
        ParameterError: the run makes no maps.
        StoreError: components are gone or damaged, or the project ran again.
    """
    params = run.params
    mode = params.fusion.segmentation_mode
    if mode == "none":
        raise ParameterError("fusion.segmentation_mode is none: this run has no maps")
    store = Store(store_root(params.features.store, run.folder))
    language = vision = None
    if mode in ("language", "both"):
        language = component_of(run, store, LANGUAGE, "language-map", tests)
    if mode in ("vision", "both"):
        vision = component_of(run, store, VISION, "vision-map", tests)
    masking = None
    if vision and params.evaluate.masks_any_background:
        receipt, label = read_receipt(TEST, run.folder), params.foreground_feature().label
        feature = receipt.located(store, label).locations(tests["hash"])
        masking = Component(receipt.space(label), feature)
    run.check_unchanged()  # else the run's thresholds and scales are of other maps
    return _fused(run, store, tests, language, vision, masking)


def _fused(
    run: FinishedRun, store: Store, tests: pd.DataFrame, language: Component | None,
    vision: Component | None, masking: Component | None,
) -> Iterator[NDArray[np.float64]]:  # fmt: skip
    params, recipe = run.params, Recipe.of(run.params)
    multiplier = np.float32(params.vision_multiplier(run.trial))
    for start in range(0, len(tests), BLOCK_IMAGES):
        rows = slice(start, start + BLOCK_IMAGES)
        categories = tests["category"].iloc[rows]
        texts: Any = language[rows].read(store) if language else [None] * len(categories)
        visions: Any = [None] * len(categories)
        if vision:
            found = vision[rows].read(store)
            if masking:  # the background scores 0
                by = foregrounds(params.evaluate, masking[rows], categories)
                found = by.masked(store, [found])[0][0]
            visions = found * multiplier
        for text, seen in zip(texts, visions, strict=True):
            values = recipe.values(text, seen, run.trial.shots)
            assert values is not None
            yield values


def export_maps(
    run: FinishedRun,
    folder: Path,
    *,
    form: Format = "tiff",
    layout: Layout = "mvtec",
    size: Size = "image",
    dtype: Dtype = "float32",
    categories: Sequence[str] | None = None,
    force: bool = False,
) -> int:
    """Write the maps of one trial's test images; the number of files.

    Args:
        folder: to write into, made if missing.
        form: ``tiff``: numbers, neither quantised nor clipped; ``png``: levels as ``maps.zarr`` holds
            them, of 8 or 16 bits.
        layout: see :func:`file_names`.
        size: ``image``: bilinearly at each image's own size; ``map``: as they are.
        categories: some of the run's; all by default.
        force: write into a folder that is not empty.

    Raises:
        ParameterError: no maps, an unknown category, or a folder that is not empty.
        DataError: no test images, or two of one name.
        StoreError: score components are gone or damaged.
    """
    tests = exported_images(run, categories)
    names = file_names(tests, layout)
    found = maps(run, tests)
    prepare_export(folder, force)
    write_maps(run, tests, names, found, folder, form=form, size=size, dtype=dtype)
    return len(tests)


def write_maps(
    run: FinishedRun,
    tests: pd.DataFrame,
    names: Sequence[PurePosixPath],
    found: Iterable[NDArray[np.float64]],
    folder: Path,
    *,
    form: Format = "tiff",
    size: Size = "image",
    dtype: Dtype = "float32",
) -> None:
    """Write the maps of some test images, see :func:`export_maps`.

    Args:
        tests: rows of the manifest.
        names: of the files without suffix, relative to the folder.
        folder, form, size, dtype: see :func:`export_maps`.

    Raises:
        DataError: a value is too large for the numbers of the file.
        StoreError: a file cannot be written.
    """
    rows = zip(
        tests["category"], tests["width"].astype(int), tests["height"].astype(int), strict=True
    )
    recipe = Recipe.of(run.params)
    with Progress(len(tests), "exporting") as progress:
        for name, (category, width, height), values in zip(names, rows, found, strict=True):
            scale = run.thresholds[category].map_scale
            measured, shape = measured_size(run.params, width, height, run.aspect), (height, width)
            if size == "map":
                pixels = scale.levels(values) if form == "png" else values.astype(np.float32)
            elif form == "png":
                pixels = recipe.image_levels(values, measured, shape, scale)
            else:
                pixels = recipe.image_values(values, measured, shape)
            if form == "tiff" and float(np.abs(pixels).max()) > np.finfo(dtype).max:
                raise DataError(
                    f"{name}: values up to {np.abs(pixels).max():g} do not fit into {dtype}, whose "
                    f"largest is {np.finfo(dtype).max:g}: set fusion.vision_multiplier to a smaller "
                    "number"
                )
            path = folder / f"{name}.{form}"
            with writing(path):
                write_picture(pixels if form == "png" else pixels.astype(dtype), path)
            progress.advance()


def export_masks(
    run: FinishedRun,
    folder: Path,
    *,
    layout: Layout = "mvtec",
    categories: Sequence[str] | None = None,
    force: bool = False,
) -> int:
    """Write what is above the pixel threshold, 255 on 0, as PNG at each image's own size.

    Arguments, result and errors as for :func:`export_maps`; also:

    Raises:
        ParameterError: a category has no pixel threshold.
    """
    tests = exported_images(run, categories)
    names = file_names(tests, layout)
    check_pixel_thresholds(run, tests)
    found = maps(run, tests)
    prepare_export(folder, force)
    write_masks(run, tests, names, found, folder)
    return len(tests)


def write_masks(
    run: FinishedRun,
    tests: pd.DataFrame,
    names: Sequence[PurePosixPath],
    found: Iterable[NDArray[np.float64]],
    folder: Path,
) -> None:
    """Write the masks of some test images; arguments and errors as for :func:`write_maps`.

    Raises:
        ParameterError: a category has no pixel threshold.
    """
    calls = PixelCalls.of(run)
    rows = zip(
        tests["category"], tests["width"].astype(int), tests["height"].astype(int), strict=True
    )
    with Progress(len(tests), "exporting") as progress:
        for name, (category, width, height), values in zip(names, rows, found, strict=True):
            above = calls.mask(category, width, height, values)
            path = folder / f"{name}.png"
            with writing(path):
                write_picture(above.astype(np.uint8) * np.uint8(255), path)
            progress.advance()


def prepare_export(folder: Path, force: bool) -> None:
    """Make the folder of an export, which must be empty unless files may join others.

    Raises:
        ParameterError: it holds files, or cannot be made.
    """
    prepare_folder(folder)
    if any(folder.iterdir()) and not force:
        raise ParameterError(
            f"{folder} is not empty, and files of another run could stay among the new ones: name "
            "another folder, or write into it with --force"
        )
