"""A finished run as it was when it was opened: its images, thresholds and maps."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.layout import fingerprint
from cache.location import open_path
from fade.datasets.read import dataset_root
from fade.errors import DataError, StoreError
from fade.preprocess import decode_rgb
from fade.types import Trial
from pipeline.artefacts.catalogue import MANIFEST, REPORT, SCORES, SELECTION, THRESHOLDS
from pipeline.artefacts.maps import map_loader
from pipeline.artefacts.results_state import results_state
from pipeline.artefacts.tables import read_table
from pipeline.dataset.loader import read_unchanged
from pipeline.evaluation.recipe import Recipe, closing_of, measured_size
from pipeline.evaluation.thresholds import Threshold, read_thresholds, undecided
from pipeline.inference.prediction import Decision, Prediction
from pipeline.inference.run import FinishedRun
from pipeline.serve.drawing import THUMBNAIL, encoded, fitted
from pipeline.serve.image_index import ImageFilter, ImageIndex
from pipeline.serve.kept import kept

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

THUMBNAILS = 4096
"""Small pictures that are kept, of about 8 KB each."""


class Snapshot:
    """A finished run as it was when it was opened.

    Args:
        shots, seed: the trial to show first, see :func:`choose_trial`.

    Raises:
        StoreError: something is missing, damaged, of other parameters, or changed meanwhile.

    Attributes:
        key: another one for other results.
        run: whose trial is shown first.
        index: of its test images.
        thresholds: by category and trial.
        thumbnail: of a row, the image as a small WebP file.
    """

    def __init__(self, folder: Path, shots: int | None = None, seed: int | None = None) -> None:
        self.folder = folder
        self.state = results_state(folder)
        self.key = fingerprint([self.state])[:16]
        self.run = FinishedRun(folder, shots, seed)
        self.index = ImageIndex.open(folder / SCORES.path, self.run.categories)
        self.thresholds: dict[tuple[str, Trial], Threshold] = {
            (one.category, one.trial): one for one in read_thresholds(folder / THRESHOLDS.path)
        }
        self.params, self.trial = self.run.params, self.run.trial
        if self.params.evaluate.labels:  # the scores have the labels of that file
            self.index.take_given(self._given())
        self._recipe, self._closing = Recipe.of(self.params), closing_of(self.params)
        self.index.scores.setdefault(self.trial, np.empty(0))  # where there are no test images
        # what is asked for first: put in order before the model is loaded beside it
        limits = self.index.limits(self.trial, self.thresholds)
        self.index.select(self.trial, ImageFilter(), "highest", limits, (0, 1))
        self.thumbnail = kept(THUMBNAILS, self._thumbnail)
        if results_state(folder) != self.state:
            raise StoreError(
                f"the results in {folder} changed while they were read: wait until `fade run` has ended"
            )

    @property
    def has_maps(self) -> bool:
        """Whether the run made maps."""
        return self.params.fusion.segmentation_mode != "none"

    def threshold(self, category: str, trial: Trial) -> Threshold:
        """The threshold of a category in a trial."""
        known = self.thresholds.get((category, trial))
        return known or undecided(category, trial, "the run has no threshold of it")

    def decision(self, row: int, trial: Trial, threshold: float | None) -> Decision | None:
        """What a threshold says of an image; None without a score or a threshold."""
        score = float(self.index.scores[trial][row])
        if threshold is None or np.isnan(score):
            return None
        return "anomalous" if score > threshold else "normal"

    def size(self, row: int) -> tuple[int, int]:
        """(width, height) of an image in pixels."""
        listed = self._listed(row)
        return int(listed["width"]), int(listed["height"])

    def row_of(self, path: str) -> int | None:
        """The row of an image by its path; None where there is none."""
        import pyarrow as pa
        import pyarrow.compute as pc

        paths = self.index.paths
        row = pc.index(paths, pa.scalar(path, paths.type)).as_py()
        return None if row < 0 else int(row)

    def picture(self, row: int) -> Image.Image:
        """An image in RGB.

        Raises:
            DataError: it cannot be read, or changed since the run.
        """
        listed = self._listed(row)
        return self._decoded(self.index.path(row), listed["hash"])

    def _thumbnail(self, row: int) -> bytes:
        return encoded(fitted(self.picture(row), THUMBNAIL), ".webp")

    def prediction(self, row: int, trial: Trial, size: tuple[int, int] | None = None) -> Prediction:
        """What the run said of an image.

        Args:
            size: (width, height) of the pictures to draw; the image's own by default.

        Raises:
            StoreError: its map is missing or damaged.
        """
        listed = self._listed(row)
        own = int(listed["width"]), int(listed["height"])
        category = self.index.categories[self.index.category[row]]
        threshold = self.threshold(category, trial)
        scale = threshold.map_scale
        levels = self._maps(trial.label, row) if self.has_maps else None
        finished = None
        if levels is not None:
            levels = np.asarray(levels)
            if not self._recipe.is_plain(scale) or not self._closing.is_none:
                measured = measured_size(self.params, *own, self.run.aspect)
                finished = self._recipe.pixels(scale.middles(levels), measured, scale)
        score = float(self.index.scores[trial][row])
        return Prediction(
            self.index.path(row), category, None if np.isnan(score) else score, threshold.image,
            self.decision(row, trial, threshold.image), levels, threshold.pixel, threshold.source,
            threshold.images, threshold.remark, size or own, trial=trial, set_by=threshold.set_by,
            false_alarm_limit=threshold.false_alarm_limit, finished=finished, scale=scale,
            closing=self._closing,
        )  # fmt: skip

    def report(self) -> tuple[bytes, str]:
        """The report's page, and what a browser may do with it: this version's script alone runs.

        Raises:
            StoreError: it is missing, or another version wrote it.
        """
        from pipeline.report.policy import content_policy, page_part, script_digest

        path, script = self.folder / REPORT.path / "index.html", page_part("page/page.js")
        try:
            page = path.read_bytes()
        except OSError:
            raise StoreError(f"{path} is missing: run `fade run`") from None
        if script_digest(script).encode() not in page:
            raise StoreError(f"{path} was written by another version: run `fade run`")
        return page, content_policy(script)

    def references(self, category: str) -> tuple[str, ...]:
        """The paths of a category's reference images, each once, in order."""
        return tuple(path for of, path in self._references if of == category)

    def reference_picture(self, category: str, number: int) -> Image.Image:
        """One of them in RGB.

        Raises:
            DataError: there is none of this number, or it changed since the run.
        """
        paths = self.references(category)
        if not 0 <= number < len(paths):
            raise DataError(f"{category} has no reference image number {number}")
        return self._decoded(paths[number], self._references[category, paths[number]])

    @cached_property
    def _references(self) -> dict[tuple[str, str], str]:
        table, _ = read_table(self.folder / SELECTION.path, ("category", "path", "hash"))
        rows = table.drop_duplicates().sort_values(["category", "path"])
        return {
            (str(category), str(path)): str(key)
            for category, path, key in rows.itertuples(index=False, name=None)
        }

    @cached_property
    def _maps(self) -> Any:
        return map_loader(self.folder)

    @cached_property
    def _root(self) -> Any:
        path = self.params.dataset.path
        here = path if "://" in path else str(self.folder / path)
        return dataset_root(self.params.dataset.format, open_path(here))

    @cached_property
    def _manifest(self) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / MANIFEST.path
        try:
            found = pq.read_table(
                path,
                columns=["path", "hash", "width", "height", "is_anomaly"],
                filters=[("split", "=", "test")],
            )
        except (OSError, ValueError, KeyError, pa.ArrowException):
            raise StoreError(f"{path} is missing or damaged: run `fade run`") from None
        return found.combine_chunks()

    def _given(self) -> pa.ChunkedArray:
        """The data set's labels (n,) of the test images."""
        import pyarrow as pa

        if not pa.chunked_array([self.index.paths]).equals(self._manifest["path"]):
            raise self._other_run()
        return self._manifest["is_anomaly"]

    def _other_run(self) -> StoreError:
        return StoreError(
            f"{self.folder / MANIFEST.path} is of another run than {SCORES.path}: wait until "
            "`fade run` has ended"
        )

    def _listed(self, row: int) -> dict[str, Any]:
        """What the manifest says of an image."""
        found: list[dict[str, Any]] = self._manifest.slice(row, 1).to_pylist()
        if not found or found[0]["path"] != self.index.path(row):
            raise self._other_run()
        return found[0]

    def _decoded(self, path: str, key: str) -> Image.Image:
        data = read_unchanged(self._root, path, key)
        return decode_rgb(data, path, exif_rotation=self.params.dataset.exif_rotation)
